//! Which destination a connection or request is for: named by the listener, by the authority, or by the address it was
//! going to before it was redirected. What was found is kept with the connection, so that its further requests neither
//! ask nor allocate; a push that changes where addresses lead undoes that.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use weft_api::names;
use weft_api::v1::OutboundPolicy;

use crate::config::snapshot::{Address, Addresses, Destination, Pinned, Snapshot};
use crate::net::worker::Worker;
use crate::reject::{Reason, Reject};

/// Where a connection wants to go, and what was found last.
#[derive(Debug)]
pub struct Way {
    to: To,
    found: RefCell<Option<Lead>>,
}

/// Where a connection wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// To this destination.
    Named(Arc<str>),
    /// To this address; for HTTP the authority counts first.
    Redirected(SocketAddr),
}

/// What was found.
#[derive(Debug)]
pub enum Found {
    /// A destination of the mesh, and the one endpoint that is meant where the address is an instance's own.
    Known(Arc<Destination>, Option<Pinned>),
    /// None; traffic to it may pass as it is.
    Outside(SocketAddr),
}

/// Where an authority led, and the addresses by which it did.
#[derive(Clone, Debug)]
struct Lead {
    addresses: Arc<Addresses>,
    host: Box<str>,
    address: Address,
    /// False: nobody said so, but it had to go on.
    answered: bool,
}

impl Way {
    /// A way to that place.
    pub fn new(to: To) -> Self {
        Self { to, found: RefCell::new(None) }
    }

    /// Whether the connection was redirected.
    pub fn is_redirected(&self) -> bool {
        matches!(self.to, To::Redirected(_))
    }
}

/// The destination; `host` is the request's authority, empty for raw connections.
pub async fn find(worker: &Rc<Worker>, config: &Snapshot, way: &Way, host: &str) -> Result<Found, Reject> {
    let socket = match &way.to {
        To::Named(name) => return known(worker, config, name, None).await,
        To::Redirected(socket) => *socket,
    };
    if let Some(found) = kept(config, way, (socket, host)) {
        return found;
    }
    // Once per connection, so it is not to make every request's future larger.
    let lead = Box::pin(lead(worker, socket, host)).await?;
    let (address, answered) = (lead.address.clone(), lead.answered);
    way.found.replace(Some(lead));
    match address.destination {
        Some(name) => Box::pin(known(worker, config, &name, address.pinned)).await,
        None => outside(config, socket, (host, answered)),
    }
}

/// What this connection found last, where it was asked for the same and still holds.
fn kept(config: &Snapshot, way: &Way, (socket, host): (SocketAddr, &str)) -> Option<Result<Found, Reject>> {
    let found = way.found.borrow();
    let still = |lead: &&Lead| Arc::ptr_eq(&lead.addresses, &config.addresses) && *lead.host == *host;
    let lead = found.as_ref().filter(still)?;
    let Some(name) = &lead.address.destination else {
        return Some(outside(config, socket, (host, lead.answered)));
    };
    let destination = config.destinations.get(name)?;
    Some(Ok(Found::Known(Arc::clone(destination), lead.address.pinned)))
}

async fn known(
    worker: &Rc<Worker>,
    config: &Snapshot,
    name: &Arc<str>,
    pinned: Option<Pinned>,
) -> Result<Found, Reject> {
    let destination = match config.destinations.get(name) {
        Some(destination) => Arc::clone(destination),
        None => worker.shared.destination(name).await?,
    };
    Ok(Found::Known(destination, pinned))
}

fn outside(config: &Snapshot, socket: SocketAddr, (host, answered): (&str, bool)) -> Result<Found, Reject> {
    match config.proxy.outbound_policy {
        OutboundPolicy::RegistryOnly if !answered => {
            Err(Reject::new(Reason::NotReady).because("the operator does not say where this address leads"))
        }
        OutboundPolicy::RegistryOnly => {
            let what = if host.is_empty() { socket.to_string() } else { host.to_owned() };
            Err(Reject::new(Reason::UnknownDestination).because(what))
        }
        OutboundPolicy::Allow | OutboundPolicy::Unspecified => Ok(Found::Outside(socket)),
    }
}

/// Where an authority leads, else the address.
async fn lead(worker: &Rc<Worker>, socket: SocketAddr, host: &str) -> Result<Lead, Reject> {
    let shared = &worker.shared;
    shared.configured().await?;
    let own = shared.settings.workload.split('/').next().unwrap_or_default();
    let by_host = name_of(host, own, socket.port());
    let mut answered = true;
    let mut found = Address::default();
    for name in [by_host, Some(socket.to_string())].into_iter().flatten() {
        let said = shared.address(&name).await?;
        answered &= said.is_some();
        let address = said.unwrap_or_else(|| held(&shared.config.load(), &name));
        if address.destination.is_some() {
            found = address;
            break;
        }
    }
    // Of what has just been answered the snapshot of the request may not know yet.
    let addresses = Arc::clone(&shared.config.load().addresses);
    Ok(Lead { addresses, host: host.into(), address: found, answered })
}

/// What the destinations that are held say themselves while the operator says nothing: what is known to be in the mesh
/// must never be sent plain text only because nobody can be asked.
fn held(config: &Snapshot, name: &str) -> Address {
    let all = config.destinations.values();
    match names::Address::parse(name) {
        Some(names::Address::Port { namespace, service, port }) => {
            let is_it = |destination: &&Arc<Destination>| {
                destination.port == port && destination.service.split_once('/') == Some((namespace, service))
            };
            let found = all.into_iter().find(is_it);
            Address { destination: found.map(|found| Arc::clone(&found.name)), pinned: None }
        }
        Some(names::Address::Socket(socket)) => {
            let endpoint = |destination: &Arc<Destination>| {
                let endpoint = destination.balancer.endpoints().iter().find(|e| e.address() == socket)?;
                let pinned = Some(Pinned { address: socket, meshed: endpoint.is_meshed() });
                Some(Address { destination: Some(Arc::clone(&destination.name)), pinned })
            };
            all.into_iter().find_map(endpoint).unwrap_or_default()
        }
        None => Address::default(),
    }
}

/// `<namespace>/<service>:<port>` for the names a Service has inside a cluster.
fn name_of(host: &str, own_namespace: &str, port: u16) -> Option<String> {
    let mut labels = host.trim_end_matches('.').split('.');
    let service = labels.next().filter(|label| !label.is_empty())?;
    let namespace = labels.next().unwrap_or(own_namespace);
    let inside = matches!(labels.next(), None | Some("svc"));
    let is_label = |text: &str| text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    (inside && is_label(service) && is_label(namespace)).then(|| format!("{namespace}/{service}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_services_are_recognised() {
        let check = |host: &str, expect: Option<&str>| {
            assert_eq!(name_of(host, "shop", 80).as_deref(), expect, "{host}");
        };
        check("product", Some("shop/product:80"));
        check("product.other", Some("other/product:80"));
        check("product.other.svc", Some("other/product:80"));
        check("product.other.svc.cluster.local", Some("other/product:80"));
        check("product.other.svc.cluster.local.", Some("other/product:80"));
        check("db-0.db.shop.svc.cluster.local", None);
        check("api.example.org", None);
        check("10.96.3.4", None);
        check("", None);
        check("a_b", None);
    }
}
