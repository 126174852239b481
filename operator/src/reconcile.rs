//! The operator's one loop: what happened changes the world, what that affects is compiled anew and published, and its
//! status is written. Everything else only tells this loop what happened (`event`) or carries out what it decided.
//! Compiling and judging are `weft-core`'s; there is no IO on this path but the authority's first start.

mod admit;
mod changes;
mod inspect;
mod keys;
mod made;
mod open;
mod remote;
mod review;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use weft_api::status::Problem;
use weft_api::v1::Keys;
use weft_core::world::{Affected, Change, InstanceRef, ObjectRef, World};
use weft_core::{compile, status};
use weft_crds::mesh::Mesh;

use self::remote::Remote;
use crate::attest::JoinTokens;
use crate::authority::Authority;
use crate::clock::unix_now;
use crate::cluster::Outlet;
use crate::event::Event;
use crate::jwks::Wanted;
use crate::metrics::Metrics;
use crate::publish::Publish;
use crate::source::{Loaded, Part};
use crate::status_writer::StatusWriter;

/// How often what proxies report is taken over: bounds what a chatty proxy can cause.
const REPORTS_EVERY: Duration = Duration::from_millis(500);
/// How often every status is looked at again: certificates end without a change.
const STATUSES_EVERY: Duration = Duration::from_mins(1);

/// Owns the world and all that is computed from it.
pub(crate) struct Reconciler {
    world: World,
    publish: Publish,
    status: StatusWriter,
    /// Objects in force.
    objects: BTreeSet<ObjectRef>,
    keys: BTreeMap<String, Keys>,
    problems: BTreeMap<Part, Vec<Problem>>,
    loaded: BTreeSet<Part>,
    /// All that a cluster holds has been told.
    synced: bool,
    /// Destinations that key sets are fetched from.
    key_destinations: BTreeSet<String>,
    /// Proxies that want to subscribe and whose pods are not known yet.
    waiting: Vec<open::Waiting>,
    authority: Option<Arc<Authority>>,
    /// What proxies of other replicas say.
    remote: Remote,
    outlets: Outlets,
}

/// Where the authority comes from.
pub(crate) enum Keeping {
    /// It is opened here.
    Folder {
        /// What keeps it.
        folder: PathBuf,
        /// Life of certificates, where it overrides the Mesh resource.
        lifetime: Option<Duration>,
    },
    /// Somebody else opens it for the Mesh that is said here ([`Event::Authority`]).
    Elsewhere(watch::Sender<Option<Mesh>>),
}

/// What the reconciler needs from outside, and where its decisions go.
pub(crate) struct Outlets {
    pub(crate) keeping: Keeping,
    /// Where what a cluster is to hold goes; none: standalone.
    pub(crate) cluster: Option<Outlet>,
    /// Namespaces of a cluster that need the roots, once they are known.
    pub(crate) namespaces: watch::Sender<Option<BTreeSet<String>>>,
    /// Join tokens in force.
    pub(crate) tokens: watch::Sender<JoinTokens>,
    /// Key sets to fetch.
    pub(crate) wanted_keys: watch::Sender<Vec<Wanted>>,
    /// Taken when the first configuration is in force.
    pub(crate) in_force: Option<oneshot::Sender<Arc<Authority>>>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Reconciler {
    /// Knows nothing but the key sets that an earlier operator fetched.
    pub(crate) fn new(outlets: Outlets, kept_keys: Vec<(String, Keys)>) -> Self {
        let mut reconciler = Self {
            world: if outlets.cluster.is_some() { World::in_cluster() } else { World::default() },
            publish: Publish::default(),
            status: match &outlets.cluster {
                Some(cluster) => StatusWriter::cluster(cluster.statuses.clone()),
                None => StatusWriter::print(),
            },
            objects: BTreeSet::new(),
            keys: BTreeMap::new(),
            problems: BTreeMap::new(),
            loaded: BTreeSet::new(),
            synced: false,
            key_destinations: BTreeSet::new(),
            waiting: Vec::new(),
            authority: None,
            remote: Remote::default(),
            outlets,
        };
        for (name, keys) in kept_keys {
            reconciler.take_keys(name, keys);
        }
        reconciler
    }

    /// Takes what happens until `stopping`.
    pub(crate) async fn run(mut self, mut events: mpsc::Receiver<Event>, stopping: CancellationToken) {
        let mut reports = tokio::time::interval(REPORTS_EVERY);
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut statuses = tokio::time::interval(STATUSES_EVERY);
        statuses.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.take(event),
                    None => return,
                },
                _ = reports.tick() => {
                    self.take_reports();
                    self.follow_namespaces();
                }
                _ = statuses.tick() => self.write_statuses(self.world.references()),
                () = stopping.cancelled() => return,
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Loaded(Loaded::Objects(objects)) => self.take_objects(objects),
            Event::Loaded(Loaded::Instances(instances)) => {
                self.accept(Part::Instances, vec![Change::ReplaceInstances(instances)]);
            }
            Event::Loaded(Loaded::Problems(part, problems)) => self.reject(part, problems),
            Event::Loaded(Loaded::Changes(changes)) => self.take_changes(changes),
            Event::Loaded(Loaded::Synced) => self.take_sync(),
            Event::Keys { name, keys } => self.take_keys(name, keys),
            Event::Authority(opened) => self.take_authority(opened),
            Event::Trust(trust) => self.reconcile([Change::Trust(trust)]),
            Event::Trusts { root, answer } => drop(answer.send(self.world.all_trust(&root))),
            Event::Applied { owner, obstacle } => self.reconcile([Change::Applied { owner, obstacle }]),
            Event::Forwarded { session, proxies } => self.take_forwarded(session, proxies),
            Event::ForwardEnded(session) => self.remote.ended(session, Instant::now()),
            Event::Open(open) => self.open(*open),
            Event::Want { stream, wanted, forget } => {
                self.publish.want(stream, wanted, &forget);
                self.fill();
            }
            // Who asks from here on may have gone away meanwhile.
            Event::Injection { namespace, labels, answer } => {
                drop(answer.send(self.home(&namespace, &labels)));
            }
            Event::Review { object, answer } => drop(answer.send(self.review(*object))),
            Event::Status(answer) => drop(answer.send(self.mesh_status(unix_now()))),
            Event::World(answer) => drop(answer.send(self.world_view())),
        }
    }

    /// The path of every change.
    fn reconcile(&mut self, changes: impl IntoIterator<Item = Change>) {
        let mut affected = Affected::default();
        for change in changes {
            affected.merge(self.world.apply(change));
        }
        self.carry_out(affected);
    }

    fn carry_out(&mut self, affected: Affected) {
        self.close_moved(&affected);
        self.open_waiting();
        for workload in &affected.workloads {
            for instance in self.publish.served(workload) {
                self.compile_own(&instance);
            }
        }
        for destination in &affected.destinations {
            if self.publish.wants(destination) {
                self.publish.put_destination(destination, compile::destination(&self.world, destination));
            }
        }
        for address in &affected.addresses {
            if self.publish.wants_address(address) {
                self.publish.put_address(compile::address(&self.world, address));
            }
        }
        self.fill();
        self.make(&affected.resources);
        self.write_statuses(affected.resources);
    }

    /// Says which namespaces need the roots; now and then only, since pods come and go all the time.
    fn follow_namespaces(&self) {
        if self.outlets.cluster.is_none() || !self.synced {
            return;
        }
        let meshed = Some(self.world.meshed_namespaces());
        self.outlets.namespaces.send_if_modified(|known| {
            let changed = *known != meshed;
            *known = meshed;
            changed
        });
    }

    fn write_statuses(&mut self, resources: BTreeSet<ObjectRef>) {
        let now = unix_now();
        for reference in resources {
            let status = self.complete(status::of(&self.world, &reference, now));
            self.warn_of_end(&reference, status.as_ref(), now);
            self.status.put(&reference, status.as_ref());
            if let Some(status) = status {
                self.world.keep_status(&reference, status);
            }
        }
    }

    /// Compiles what streams lack and sends what is new on its way.
    fn fill(&mut self) {
        for instance in self.publish.missing_own() {
            self.compile_own(&instance);
        }
        for address in self.publish.missing_addresses() {
            self.publish.put_address(compile::address(&self.world, &address));
        }
        for destination in self.publish.missing_destinations() {
            self.publish.put_destination(&destination, compile::destination(&self.world, &destination));
        }
        self.publish.flush();
    }

    /// An instance that is not known (yet, or any more) keeps what it has.
    fn compile_own(&mut self, instance: &InstanceRef) {
        if self.world.instance(instance).is_some() {
            self.publish.put_own(instance, compile::own(&self.world, instance));
        }
    }

    fn take_reports(&mut self) {
        self.open_waiting();
        let forgotten = self.remote.sweep(Instant::now());
        let ended = self.publish.sweep();
        let news = self.publish.news().into_iter().map(|(instance, _)| instance);
        let mut instances: BTreeSet<InstanceRef> = forgotten.into_iter().collect();
        let own: Vec<InstanceRef> = ended.into_iter().chain(news).collect();
        self.tell_leader(&own);
        instances.extend(own);
        self.judge_reports(instances);
    }
}
