//! How everything in a run is, at this moment: written by the tasks that keep processes and check their health, read by
//! the registry, the control socket and whoever waits for something to become ready. Decides nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use weft_core::instances::{Instance, Instances};

use super::unit::UnitSpec;
use crate::api::{Kind, Phase, ProcessStatus, UnitStatus};

/// The state of all units.
#[derive(Debug)]
pub(crate) struct Board {
    units: Mutex<BTreeMap<String, Entry>>,
    /// What the operator was told last.
    told: Mutex<Instances>,
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct Entry {
    spec: Arc<UnitSpec>,
    wanted: bool,
    registered: bool,
    app: ProcessStatus,
    proxy: ProcessStatus,
}

/// One process of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Name of the unit.
    pub(crate) unit: String,
    /// Which of its two processes.
    pub(crate) which: Which,
}

/// The processes of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The application, or the server itself.
    App,
    /// The proxy.
    Proxy,
}

/// What a process has to say when nobody asked it yet.
const NOT_ASKED: &str = "not asked yet";

impl Entry {
    fn part(&mut self, which: Which) -> &mut ProcessStatus {
        match which {
            Which::App => &mut self.app,
            Which::Proxy => &mut self.proxy,
        }
    }

    fn ready(&self) -> bool {
        let well = |process: &ProcessStatus| process.phase == Phase::Running && process.unhealthy.is_empty();
        let app = self.spec.app.is_none() || well(&self.app);
        let proxy = self.spec.proxy.is_none() || well(&self.proxy);
        self.wanted && app && proxy
    }
}

impl Board {
    /// An empty board.
    pub(crate) fn new() -> Self {
        Self { units: Mutex::default(), told: Mutex::default(), changed: watch::Sender::new(0) }
    }

    /// A unit is to run as `spec` says.
    pub(crate) fn wanted(&self, spec: &Arc<UnitSpec>) {
        self.edit(|units| {
            let entry = units.entry(spec.name.clone()).or_insert_with(|| Entry {
                spec: Arc::clone(spec),
                wanted: true,
                registered: true,
                app: ProcessStatus::default(),
                proxy: ProcessStatus::default(),
            });
            entry.spec = Arc::clone(spec);
            entry.wanted = true;
            entry.registered = true;
        });
    }

    /// A unit is not to run; nobody is sent to it any more.
    pub(crate) fn unwanted(&self, unit: &str) {
        self.edit_unit(unit, |entry| (entry.wanted, entry.registered) = (false, false));
    }

    /// A unit does not exist any more.
    pub(crate) fn remove(&self, unit: &str) {
        self.edit(|units| drop(units.remove(unit)));
    }

    /// A process was started.
    pub(crate) fn started(&self, part: &Part, pid: u32, now: i64) {
        self.edit_part(part, |process| {
            process.restarts += u32::from(process.phase == Phase::Waiting);
            process.phase = Phase::Running;
            process.pid = Some(pid);
            process.since = now;
            NOT_ASKED.clone_into(&mut process.unhealthy);
        });
    }

    /// A process died and is started again soon.
    pub(crate) fn died(&self, part: &Part, end: &str) {
        self.edit_part(part, |process| {
            process.phase = Phase::Waiting;
            process.pid = None;
            end.clone_into(&mut process.last_end);
            NOT_ASKED.clone_into(&mut process.unhealthy);
        });
    }

    /// A process was stopped.
    pub(crate) fn stopped(&self, part: &Part) {
        self.edit_part(part, |process| {
            process.phase = Phase::Stopped;
            process.pid = None;
            process.restarts = 0;
        });
    }

    /// A health check of a process came to this: empty for well.
    pub(crate) fn checked(&self, part: &Part, unhealthy: &str) {
        let same = self
            .units()
            .get_mut(&part.unit)
            .is_some_and(|entry| entry.part(part.which).unhealthy == unhealthy);
        if !same {
            self.edit_part(part, |process| unhealthy.clone_into(&mut process.unhealthy));
        }
    }

    /// Whether a process runs and is well.
    pub(crate) fn is_well(&self, part: &Part) -> bool {
        self.units().get_mut(&part.unit).is_some_and(|entry| {
            let process = entry.part(part.which);
            process.phase == Phase::Running && process.unhealthy.is_empty()
        })
    }

    /// Whether a unit is ready.
    pub(crate) fn is_ready(&self, unit: &str) -> bool {
        self.units().get(unit).is_some_and(Entry::ready)
    }

    /// Whether a unit runs as `spec` says.
    pub(crate) fn runs(&self, unit: &str, spec: &UnitSpec) -> bool {
        self.units().get(unit).is_some_and(|entry| *entry.spec == *spec)
    }

    /// Whether everything that is to run is ready.
    pub(crate) fn all_ready(&self) -> bool {
        self.units().values().all(|entry| !entry.wanted || entry.ready())
    }

    /// Whether nothing of a unit runs.
    pub(crate) fn is_stopped(&self, unit: &str) -> bool {
        let stopped = |process: &ProcessStatus| process.phase == Phase::Stopped;
        self.units().get(unit).is_none_or(|entry| stopped(&entry.app) && stopped(&entry.proxy))
    }

    /// The instances that the operator is told of.
    pub(crate) fn instances(&self) -> Instances {
        let units = self.units();
        let registered = units.values().filter(|entry| entry.registered);
        let instance = |entry: &Entry| {
            let known = entry.spec.registration.clone()?;
            Some(Instance { ready: entry.ready(), ..known })
        };
        let mut instances: Vec<Instance> = registered.filter_map(instance).collect();
        instances
            .sort_by(|a, b| (&a.namespace, &a.service, &a.name).cmp(&(&b.namespace, &b.service, &b.name)));
        Instances { instances }
    }

    /// The operator was told of these instances.
    pub(crate) fn told(&self, instances: &Instances) {
        instances.clone_into(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_modify(|version| *version += 1);
    }

    /// Whether the operator was told of everything.
    pub(crate) fn all_told(&self) -> bool {
        self.instances() == *self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything, for people and programs that ask.
    pub(crate) fn status(&self) -> Vec<UnitStatus> {
        let mut all: Vec<UnitStatus> = self.units().values().map(unit_status).collect();
        all.sort_by(|a, b| (a.kind, &a.namespace, &a.name).cmp(&(b.kind, &b.namespace, &b.name)));
        all
    }

    /// An address of a unit, by purpose.
    pub(crate) fn socket(&self, unit: &str, purpose: &str) -> Option<std::net::SocketAddr> {
        self.units().get(unit).and_then(|entry| entry.spec.place.socket(purpose))
    }

    /// Waits until something on the board is so, at most for `within`.
    pub(crate) async fn wait(&self, within: Duration, mut so: impl FnMut(&Self) -> bool) -> bool {
        let mut changes = self.changes();
        let waiting = async {
            while !so(self) {
                changes.changed().await.expect("the board that sends is borrowed here");
            }
        };
        tokio::time::timeout(within, waiting).await.is_ok()
    }

    /// Says when something changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn units(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn edit(&self, change: impl FnOnce(&mut BTreeMap<String, Entry>)) {
        change(&mut self.units());
        self.changed.send_modify(|version| *version += 1);
    }

    fn edit_unit(&self, unit: &str, change: impl FnOnce(&mut Entry)) {
        self.edit(|units| {
            if let Some(entry) = units.get_mut(unit) {
                change(entry);
            }
        });
    }

    fn edit_part(&self, part: &Part, change: impl FnOnce(&mut ProcessStatus)) {
        self.edit_unit(&part.unit, |entry| change(entry.part(part.which)));
    }
}

fn unit_status(entry: &Entry) -> UnitStatus {
    let spec = &entry.spec;
    UnitStatus {
        name: spec.name.clone(),
        kind: spec.kind,
        namespace: spec.namespace.clone(),
        service: spec.service.clone(),
        address: spec.place.address,
        ready: entry.ready(),
        wanted: entry.wanted,
        urls: spec.urls.clone(),
        admin: spec.proxy.as_ref().and_then(|_| spec.place.socket("admin")),
        metrics: spec.proxy.as_ref().and_then(|_| spec.place.socket("metrics")),
        app: spec.app.as_ref().map(|_| entry.app.clone()),
        proxy: spec.proxy.as_ref().map(|_| entry.proxy.clone()),
    }
}

/// Whether a unit is one that traffic is sent to.
pub(crate) fn takes_traffic(kind: Kind) -> bool {
    kind == Kind::Service
}
