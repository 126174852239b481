//! Who is subscribed, and what each stream is to hold: the step between compiling and sending.
//!
//! A stream sees one value, its [`Target`], and compares it with what its proxy holds. A target that changes twice
//! before the stream looks is seen once: slow proxies get the newest state, never a queue of old ones. Belongs to the
//! reconciler's task alone, so nothing here is locked. Leaves out the protocol (`server/config`).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::watch;
use weft_api::names::Address;
use weft_api::v1::resource::Body;
use weft_api::v1::{Kind, Report, Resource};
use weft_core::world::{InstanceRef, Name};

/// Name of a resource on the wire, in the order in which a proxy can best use them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) kind: Kind,
    pub(crate) name: String,
}

impl Key {
    /// The key of a resource.
    pub(crate) fn of(resource: &Resource) -> Self {
        Self { kind: resource.kind(), name: resource.name.clone() }
    }
}

/// All that one stream is to hold now.
#[derive(Debug, Default)]
pub(crate) struct Target {
    pub(crate) resources: BTreeMap<Key, Arc<Resource>>,
    /// Destinations it wants that do not exist; it is told so once.
    pub(crate) absent: BTreeSet<String>,
    /// Goes up with every target of any stream.
    pub(crate) number: u64,
}

/// What a stream says of itself; the newest value counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Progress {
    /// Version of the proxy.
    pub(crate) proxy_version: String,
    /// Nothing is on its way and nothing is left to send of the target below.
    pub(crate) synced: bool,
    /// Number of the target this was said of; by now there may be a newer one.
    pub(crate) target: u64,
    /// Hash over all that is acknowledged.
    pub(crate) acked_version: String,
    /// Why the newest was refused; empty when it was not.
    pub(crate) refusal: String,
    /// The proxy's last report.
    pub(crate) report: Option<Report>,
}

/// A stream's number, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId(u64);

/// A stream's end of its subscription. Dropping it ends the subscription.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) id: StreamId,
    /// None while the instance is not known: then the proxy keeps what it has.
    pub(crate) target: watch::Receiver<Option<Arc<Target>>>,
    pub(crate) progress: watch::Sender<Progress>,
}

/// All subscriptions and what has been compiled for them.
#[derive(Debug, Default)]
pub(crate) struct Publish {
    own: HashMap<InstanceRef, Vec<Arc<Resource>>>,
    destinations: HashMap<String, Vec<Arc<Resource>>>,
    addresses: HashMap<String, Arc<Resource>>,
    /// In the order of their opening: of two streams of one instance the later counts.
    streams: BTreeMap<StreamId, Stream>,
    /// Instances whose subscriptions were ended here.
    closed: Vec<InstanceRef>,
    next: u64,
    targets: u64,
}

#[derive(Debug)]
struct Stream {
    instance: InstanceRef,
    wants: BTreeSet<String>,
    /// Destinations that the addresses it wants lead to.
    reached: BTreeSet<String>,
    target: watch::Sender<Option<Arc<Target>>>,
    progress: watch::Receiver<Progress>,
    stale: bool,
}

impl Publish {
    /// Opens a subscription. It holds nothing before the next [`Publish::flush`].
    pub(crate) fn open(&mut self, instance: InstanceRef, wants: BTreeSet<String>) -> Subscription {
        let id = StreamId(self.next);
        self.next += 1;
        let (target, target_seen) = watch::channel(None);
        let (progress_said, progress) = watch::channel(Progress::default());
        let reached = BTreeSet::new();
        self.streams.insert(id, Stream { instance, wants, reached, target, progress, stale: true });
        Subscription { id, target: target_seen, progress: progress_said }
    }

    /// Ends the subscriptions of an instance. The next [`Publish::sweep`] tells of it.
    pub(crate) fn close(&mut self, instance: &InstanceRef) {
        self.streams.retain(|_, stream| stream.instance != *instance);
        self.own.remove(instance);
        self.closed.push(instance.clone());
    }

    /// Adds destinations and addresses to what a stream wants, and takes some out.
    pub(crate) fn want(&mut self, id: StreamId, names: Vec<String>, forget: &[String]) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let before = stream.wants.len();
        stream.wants.extend(names);
        stream.stale |= stream.wants.len() > before;
        for name in forget {
            stream.stale |= stream.wants.remove(name);
        }
        if !forget.is_empty() {
            let streams = &self.streams;
            let wanted = |name: &String| streams.values().any(|stream| stream.wants.contains(name));
            for name in forget.iter().filter(|name| !wanted(name)) {
                self.addresses.remove(name);
            }
        }
    }

    /// Instances with a stream for which nothing has been compiled.
    pub(crate) fn missing_own(&self) -> BTreeSet<InstanceRef> {
        let instances = self.streams.values().map(|stream| &stream.instance);
        instances.filter(|instance| !self.own.contains_key(instance)).cloned().collect()
    }

    /// Addresses that a stream wants and that have not been compiled.
    pub(crate) fn missing_addresses(&self) -> BTreeSet<String> {
        let stale = self.streams.values().filter(|stream| stream.stale);
        let wanted = stale.flat_map(|stream| &stream.wants).filter(|name| is_address(name));
        wanted.filter(|name| !self.addresses.contains_key(*name)).cloned().collect()
    }

    /// Destinations that a stream wants, or that an address leads to which it wants, and that have not been compiled.
    pub(crate) fn missing_destinations(&mut self) -> BTreeSet<String> {
        let addresses = &self.addresses;
        for stream in self.streams.values_mut().filter(|stream| stream.stale) {
            stream.reached = stream.wants.iter().filter_map(|name| reached(addresses.get(name)?)).collect();
        }
        let stale = self.streams.values().filter(|stream| stream.stale);
        let wanted = stale.flat_map(|stream| stream.wants.iter().chain(&stream.reached));
        let known = |name: &String| is_address(name) || self.destinations.contains_key(name);
        wanted.filter(|name| !known(name)).cloned().collect()
    }

    /// Instances of a service or gateway with a stream for which something has been compiled.
    pub(crate) fn served(&self, workload: &Name) -> Vec<InstanceRef> {
        self.own.keys().filter(|instance| instance.workload == *workload).cloned().collect()
    }

    /// Whether this destination has been compiled, because a stream wants it.
    pub(crate) fn wants(&self, destination: &str) -> bool {
        self.destinations.contains_key(destination)
    }

    /// Whether this address has been compiled, because a stream wants it.
    pub(crate) fn wants_address(&self, address: &str) -> bool {
        self.addresses.contains_key(address)
    }

    /// Sets what an instance is to hold of its own.
    pub(crate) fn put_own(&mut self, instance: &InstanceRef, resources: Vec<Resource>) {
        for stream in self.streams.values_mut().filter(|stream| stream.instance == *instance) {
            stream.stale = true;
        }
        self.own.insert(instance.clone(), resources.into_iter().map(Arc::new).collect());
    }

    /// Sets what there is to say of a destination; nothing: it does not exist.
    pub(crate) fn put_destination(&mut self, name: &str, resources: Vec<Resource>) {
        let concerned = |stream: &&mut Stream| stream.wants.contains(name) || stream.reached.contains(name);
        for stream in self.streams.values_mut().filter(concerned) {
            stream.stale = true;
        }
        self.destinations.insert(name.to_owned(), resources.into_iter().map(Arc::new).collect());
    }

    /// Sets where an address leads.
    pub(crate) fn put_address(&mut self, resource: Resource) {
        if self.addresses.get(&resource.name).is_some_and(|known| known.version == resource.version) {
            return;
        }
        for stream in self.streams.values_mut().filter(|stream| stream.wants.contains(&resource.name)) {
            stream.stale = true;
        }
        self.addresses.insert(resource.name.clone(), Arc::new(resource));
    }

    /// Gives every stream concerned its new target.
    pub(crate) fn flush(&mut self) {
        for stream in self.streams.values_mut().filter(|stream| stream.stale) {
            let Some(own) = self.own.get(&stream.instance) else { continue };
            self.targets += 1;
            let held = held(own, &self.destinations, &self.addresses, stream);
            let target = Target { number: self.targets, ..held };
            stream.target.send_replace(Some(Arc::new(target)));
            stream.stale = false;
        }
    }

    /// Forgets streams that have ended and what only they used. Returns the instances that have no stream any more.
    pub(crate) fn sweep(&mut self) -> Vec<InstanceRef> {
        let mut ended = std::mem::take(&mut self.closed);
        self.streams.retain(|_, stream| {
            let open = !stream.target.is_closed();
            if !open {
                ended.push(stream.instance.clone());
            }
            open
        });
        if ended.is_empty() {
            return ended;
        }
        let used = self.streams.values().flat_map(|stream| stream.wants.iter().chain(&stream.reached));
        let used: HashSet<&String> = used.collect();
        self.destinations.retain(|name, _| used.contains(name));
        self.addresses.retain(|name, _| used.contains(name));
        let streams = &self.streams;
        ended.retain(|instance| streams.values().all(|stream| stream.instance != *instance));
        for instance in &ended {
            self.own.remove(instance);
        }
        ended
    }

    /// What streams have said since the last call.
    pub(crate) fn news(&mut self) -> Vec<(InstanceRef, Progress)> {
        let changed =
            self.streams.values_mut().filter(|stream| stream.progress.has_changed().unwrap_or(false));
        changed.map(|stream| (stream.instance.clone(), stream.progress.borrow_and_update().clone())).collect()
    }

    /// What the newest stream of an instance said last; nothing when it has none. In sync is only who said so of the
    /// newest target.
    pub(crate) fn progress(&self, instance: &InstanceRef) -> Option<Progress> {
        let open = |stream: &&Stream| stream.instance == *instance && !stream.target.is_closed();
        let stream = self.streams.values().rev().find(open)?;
        let mut progress = stream.progress.borrow().clone();
        let newest = stream.target.borrow().as_ref().map(|target| target.number);
        progress.synced &= newest == Some(progress.target);
        Some(progress)
    }
}

fn held(
    own: &[Arc<Resource>],
    destinations: &HashMap<String, Vec<Arc<Resource>>>,
    addresses: &HashMap<String, Arc<Resource>>,
    stream: &Stream,
) -> Target {
    let known = |name: &String| destinations.get(name).map_or(&[] as &[_], Vec::as_slice);
    let wants = || stream.wants.iter().chain(&stream.reached);
    let leads = stream.wants.iter().filter_map(|name| addresses.get(name));
    let wanted = wants().flat_map(known).chain(leads);
    let resources = own.iter().chain(wanted).map(|resource| (Key::of(resource), Arc::clone(resource)));
    let absent = wants().filter(|name| !is_address(name) && known(name).is_empty()).cloned();
    Target { resources: resources.collect(), absent: absent.collect(), number: 0 }
}

fn is_address(name: &str) -> bool {
    Address::parse(name).is_some()
}

/// The destination that an address leads to.
fn reached(address: &Resource) -> Option<String> {
    match &address.body {
        Some(Body::Address(address)) if !address.destination.is_empty() => Some(address.destination.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn instance(name: &str) -> InstanceRef {
        InstanceRef::new(Name::new("shop", "order"), name)
    }

    fn resource(kind: Kind, name: &str, version: &str) -> Resource {
        use weft_api::v1::resource::Body;
        let body = match kind {
            Kind::Inbound => Body::Inbound(weft_api::v1::Inbound::default()),
            _ => Body::Endpoints(weft_api::v1::Endpoints::default()),
        };
        Resource { name: name.into(), version: version.into(), body: Some(body) }
    }

    fn held(subscription: &Subscription) -> Vec<String> {
        let target = subscription.target.borrow().clone().unwrap_or_default();
        target.resources.values().map(|resource| resource.version.clone()).collect()
    }

    #[test]
    fn a_stream_holds_its_own_and_what_it_wants() {
        let mut publish = Publish::default();
        let subscription = publish.open(instance("order-0"), BTreeSet::new());
        assert_eq!(publish.missing_own(), BTreeSet::from([instance("order-0")]));
        publish.put_own(&instance("order-0"), vec![resource(Kind::Inbound, "self", "i1")]);
        publish.want(subscription.id, vec!["shop/user:http".into(), "shop/ghost:http".into()], &[]);
        assert_eq!(publish.missing_destinations().len(), 2);
        publish.put_destination("shop/user:http", vec![resource(Kind::Endpoints, "shop/user:http", "e1")]);
        publish.put_destination("shop/ghost:http", vec![]);
        publish.flush();
        assert_eq!(held(&subscription), ["i1", "e1"]);
        let target = subscription.target.borrow().clone().unwrap();
        assert_eq!(target.absent, BTreeSet::from(["shop/ghost:http".to_owned()]));
        assert!(publish.missing_own().is_empty() && publish.missing_destinations().is_empty());
    }

    #[test]
    fn only_streams_concerned_are_woken() {
        let mut publish = Publish::default();
        let mut first = publish.open(instance("order-0"), BTreeSet::from(["shop/user:http".to_owned()]));
        let mut second = publish.open(instance("order-1"), BTreeSet::new());
        publish.flush();
        assert!(first.target.borrow().is_none(), "nothing is known of the instance yet");
        publish.put_own(&instance("order-0"), vec![]);
        publish.put_own(&instance("order-1"), vec![]);
        publish.flush();
        first.target.borrow_and_update();
        second.target.borrow_and_update();
        publish.put_destination("shop/user:http", vec![resource(Kind::Endpoints, "shop/user:http", "e1")]);
        publish.put_destination("shop/user:http", vec![resource(Kind::Endpoints, "shop/user:http", "e2")]);
        publish.flush();
        assert!(first.target.has_changed().unwrap() && !second.target.has_changed().unwrap());
        assert_eq!(held(&first), ["e2"], "changes in between are coalesced");
    }

    #[test]
    fn a_subscription_that_is_closed_ends_and_is_told_once() {
        let mut publish = Publish::default();
        let mut subscription = publish.open(instance("order-0"), BTreeSet::new());
        publish.put_own(&instance("order-0"), vec![]);
        publish.flush();
        subscription.target.borrow_and_update();
        publish.close(&instance("order-0"));
        assert!(subscription.target.has_changed().is_err(), "its sender is gone");
        assert_eq!(publish.sweep(), [instance("order-0")]);
        assert!(publish.sweep().is_empty());
    }

    #[test]
    fn what_only_ended_streams_used_is_forgotten() {
        let mut publish = Publish::default();
        let subscription = publish.open(instance("order-0"), BTreeSet::from(["shop/user:http".to_owned()]));
        publish.put_own(&instance("order-0"), vec![]);
        publish.put_destination("shop/user:http", vec![]);
        let again = publish.open(instance("order-0"), BTreeSet::new());
        drop(subscription);
        assert!(publish.sweep().is_empty(), "another stream of the instance is open");
        let order = Name::new("shop", "order");
        assert!(!publish.wants("shop/user:http") && publish.served(&order) == [instance("order-0")]);
        drop(again);
        assert_eq!(publish.sweep(), [instance("order-0")]);
        assert!(publish.served(&order).is_empty());
    }
}
