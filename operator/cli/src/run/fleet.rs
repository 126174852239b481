//! All units of a run, and what can be done with them: lay out a project, stop, start and restart by name, end. What
//! one unit does by itself is in unit.rs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::sync::watch;

use super::context::Context;
use super::settled::settled;
use super::unit::{self, Goal, UnitSpec};
use crate::api::{Done, Kind};
use crate::suggest;

/// A unit that does not become ready within this time is left to itself.
pub(crate) const READY_WITHIN: Duration = Duration::from_mins(1);
/// What stopping may take beyond the time to drain.
const SPARE: Duration = Duration::from_secs(10);

/// All units.
#[derive(Debug)]
pub(crate) struct Fleet {
    cx: Arc<Context>,
    units: Mutex<Units>,
}

/// Units by name.
type Units = BTreeMap<String, Unit>;
/// Names of units by service.
type ByService = BTreeMap<String, Vec<String>>;

#[derive(Debug)]
struct Unit {
    spec: Arc<UnitSpec>,
    wanted: bool,
    goal: watch::Sender<Goal>,
}

impl Unit {
    fn up(&self) {
        self.goal.send_replace(Goal::Up(Arc::clone(&self.spec)));
    }

    fn down(&self) {
        self.goal.send_replace(Goal::Down);
    }

    /// Down and up again.
    fn again(&mut self) {
        let mut spec = UnitSpec::clone(&self.spec);
        spec.generation += 1;
        (self.spec, self.wanted) = (Arc::new(spec), true);
        self.up();
    }
}

/// What a new layout changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// New units.
    pub(crate) added: Vec<String>,
    /// Units that run differently now.
    pub(crate) changed: Vec<String>,
    /// Units that are gone.
    pub(crate) removed: Vec<String>,
}

impl Fleet {
    /// No units yet.
    pub(crate) fn new(cx: Arc<Context>) -> Self {
        Self { cx, units: Mutex::default() }
    }

    /// Adds a unit and starts it; one that is there already goes on as it is.
    pub(crate) fn add(&self, spec: UnitSpec) {
        self.with(|units| {
            units.entry(spec.name.clone()).or_insert_with(|| self.launch(Arc::new(spec)));
        });
    }

    /// Names of all units.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.with(|units| units.keys().cloned().collect())
    }

    /// Makes services and gateways what `specs` say: starts new ones, ends others, restarts what changed, one instance
    /// of a service after the other.
    pub(crate) fn lay_out(self: &Arc<Self>, specs: Vec<UnitSpec>) -> Changes {
        let mut changes = Changes::default();
        let mut later = ByService::new();
        let keep: BTreeSet<String> = specs.iter().map(|spec| spec.name.clone()).collect();
        self.with(|units| {
            for spec in specs {
                self.lay_out_one(units, spec, &mut changes, &mut later);
            }
            let ours = |unit: &Unit| matches!(unit.spec.kind, Kind::Service | Kind::Gateway);
            let gone = units.iter().filter(|(name, unit)| ours(unit) && !keep.contains(*name));
            changes.removed = gone.map(|(name, _)| name.clone()).collect();
            for unit in changes.removed.iter().filter_map(|name| units.remove(name)) {
                self.retire(&unit);
            }
        });
        for names in later.into_values() {
            let fleet = Arc::clone(self);
            self.cx.tasks.spawn(async move { fleet.roll(&names).await });
        }
        changes
    }

    /// One unit of a layout: new, changed or as it was. Changed ones are told later.
    fn lay_out_one(&self, units: &mut Units, spec: UnitSpec, changes: &mut Changes, later: &mut ByService) {
        let Some(unit) = units.get_mut(&spec.name) else {
            changes.added.push(spec.name.clone());
            units.insert(spec.name.clone(), self.launch(Arc::new(spec)));
            return;
        };
        let spec = UnitSpec { generation: unit.spec.generation, ..spec };
        if *unit.spec == spec {
            return;
        }
        if !spec.runs_alike(&unit.spec) {
            changes.changed.push(spec.name.clone());
        }
        later.entry(format!("{}/{}", spec.namespace, spec.service)).or_default().push(spec.name.clone());
        unit.spec = Arc::new(spec);
    }

    /// Stops what a name means: an instance, a service, a gateway or a server.
    pub(crate) async fn stop(&self, name: &str) -> Result<Done> {
        let names = self.find(name)?;
        self.with(|units| {
            for (_, unit) in units.iter_mut().filter(|(name, _)| names.contains(name)) {
                unit.wanted = false;
                unit.down();
            }
        });
        let stopped = |board: &super::board::Board| names.iter().all(|name| board.is_stopped(name));
        if !self.cx.board.wait(self.cx.drain + SPARE, stopped).await {
            bail!("{} did not stop in time", names.join(", "));
        }
        self.done("stopped", names)
    }

    /// Starts what was stopped.
    pub(crate) async fn start(&self, name: &str) -> Result<Done> {
        let names = self.find(name)?;
        self.with(|units| {
            for (_, unit) in units.iter_mut().filter(|(name, _)| names.contains(name)) {
                unit.wanted = true;
                unit.up();
            }
        });
        self.become_ready(&names).await?;
        self.done("started and ready", names)
    }

    /// Restarts one instance after the other, so that a service with several stays available.
    pub(crate) async fn restart(&self, name: &str) -> Result<Done> {
        let names = self.find(name)?;
        for name in &names {
            self.with(|units| units.get_mut(name).into_iter().for_each(Unit::again));
            self.come_back(name).await?;
        }
        self.done("restarted and ready", names)
    }

    /// Ends units: gateways first, so that nothing new comes in, then services, the operator, and servers last.
    pub(crate) async fn end(&self) {
        for kind in [Kind::Gateway, Kind::Service, Kind::Operator, Kind::Server] {
            let names = self.with(|units| down_of_kind(units, kind));
            // Every process has its own deadline, after which it is killed; this one is for the case of a defect.
            let patience = self.cx.drain * 2 + SPARE;
            self.cx.board.wait(patience, |board| names.iter().all(|name| board.is_stopped(name))).await;
        }
        self.with(BTreeMap::clear);
    }

    fn launch(&self, spec: Arc<UnitSpec>) -> Unit {
        self.cx.board.wanted(&spec);
        let goal = watch::Sender::new(Goal::Up(Arc::clone(&spec)));
        self.cx.tasks.spawn(unit::run(Arc::clone(&self.cx), goal.subscribe()));
        Unit { spec, wanted: true, goal }
    }

    /// Ends a unit for good.
    fn retire(&self, unit: &Unit) {
        unit.down();
        let (cx, name) = (Arc::clone(&self.cx), unit.spec.name.clone());
        self.cx.tasks.spawn(async move {
            cx.board.wait(cx.drain + SPARE, |board| board.is_stopped(&name)).await;
            cx.board.remove(&name);
        });
    }

    /// Gives units their new specs, waiting for each to be ready before the next.
    async fn roll(&self, names: &[String]) {
        for name in names {
            let wanted = self.with(|units| {
                let unit = units.get(name).filter(|unit| unit.wanted);
                unit.map(Unit::up).is_some()
            });
            if wanted && let Err(error) = self.come_back(name).await {
                self.cx.terminal.say(&format!("{error:#}"));
            }
        }
    }

    /// Waits for a unit that was just told to change to do so and be ready.
    async fn come_back(&self, name: &str) -> Result<()> {
        let wanted = self.with(|units| units.get(name).map(|unit| Arc::clone(&unit.spec)));
        let Some(wanted) = wanted else { return Ok(()) };
        let back = |board: &super::board::Board| board.is_ready(name) && board.runs(name, &wanted);
        if !self.cx.board.wait(self.cx.drain + READY_WITHIN, back).await {
            bail!("{name} is not ready again; see: weft logs {name}");
        }
        Ok(())
    }

    async fn become_ready(&self, names: &[String]) -> Result<()> {
        let ready = |board: &super::board::Board| names.iter().all(|name| board.is_ready(name));
        if !self.cx.board.wait(READY_WITHIN, ready).await {
            bail!(
                "not ready within {} s; see: weft status, weft logs {}",
                READY_WITHIN.as_secs(),
                names.join(" ")
            );
        }
        // What is ready is ready, told or not; waiting only spares whoever asked a request that comes too early.
        if !settled(&self.cx.board).await {
            self.cx.terminal.say("not every proxy knows of it yet; see: weft status");
        }
        Ok(())
    }

    #[expect(clippy::unnecessary_wraps, reason = "every command ends with it")]
    fn done(&self, what: &str, units: Vec<String>) -> Result<Done> {
        let message = format!("{} {what}", units.join(", "));
        self.cx.terminal.say(&message);
        Ok(Done { units, message })
    }

    /// The units that a name means.
    fn find(&self, name: &str) -> Result<Vec<String>> {
        self.with(|units| {
            if units.contains_key(name) {
                return Ok(vec![name.to_owned()]);
            }
            let means = |unit: &&Unit| {
                let spec = &unit.spec;
                spec.service == name || format!("{}/{}", spec.namespace, spec.service) == name
            };
            let found: Vec<String> =
                units.values().filter(means).map(|unit| unit.spec.name.clone()).collect();
            if !found.is_empty() {
                return Ok(found);
            }
            let services: BTreeSet<&str> = units.values().map(|unit| unit.spec.service.as_str()).collect();
            let known = services.iter().copied().chain(units.keys().map(String::as_str));
            let mut message = format!("nothing here is called `{name}`{}", suggest::hint(name, known));
            let list: Vec<&str> = services.into_iter().collect();
            write!(message, " (there are: {})", list.join(", "))?;
            bail!(message)
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Units) -> T) -> T {
        act(&mut self.units.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Ends all units of a kind; their names.
fn down_of_kind(units: &Units, kind: Kind) -> Vec<String> {
    let of_kind = units.values().filter(|unit| unit.spec.kind == kind);
    let down = of_kind.inspect(|unit| unit.down());
    down.map(|unit| unit.spec.name.clone()).collect()
}
