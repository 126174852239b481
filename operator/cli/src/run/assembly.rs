//! Puts a run together in order: places, private servers, the operator, certificates, then services and gateways.
//! Applied again after every change of the files; what is there already stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::time::Instant;

use super::certificate;
use super::clock::unix_now;
use super::context::Context;
use super::fleet::{Changes, Fleet};
use super::logfile::last_lines;
use super::plan::{Needs, Net, Place, Plan};
use super::postgres;
use super::project::Project;
use super::redis;
use super::specs::{self, Ground, Layout, OPERATOR};
use super::unit::UnitSpec;
use crate::settings::RunArgs;
use crate::state::{RunNote, Runs, State, write_whole};

/// A server or the operator is up within this time, or something is wrong with it.
const UP_WITHIN: Duration = Duration::from_mins(1);

/// What a run is put together with.
pub(crate) struct Assembly {
    cx: Arc<Context>,
    fleet: Arc<Fleet>,
    runs: Runs,
    started: i64,
    plan: Plan,
    tokens: BTreeMap<String, String>,
    ground: Ground,
    certificates: BTreeMap<String, PathBuf>,
}

impl Assembly {
    /// Nothing started yet; the operator has its place.
    pub(crate) fn new(args: &RunArgs, cx: &Arc<Context>, fleet: &Arc<Fleet>, runs: Runs) -> Result<Self> {
        let program = |given: &Option<PathBuf>, name: &str| match given {
            Some(path) => Ok(path.clone()),
            None => cx.tools.find(name).with_context(|| {
                format!("there is no program `{name}` beside `weft` or on PATH; build it with `cargo build`")
            }),
        };
        let ground = Ground {
            state: cx.state.clone(),
            tools: cx.tools.clone(),
            operator_program: program(&args.operator_program, "weft-operator")?,
            proxy_program: program(&args.proxy_program, "weft-proxy")?,
            gateway_address: args.gateway_address,
            log: args.log.clone(),
            drain: cx.drain,
            operator: ([127, 0, 0, 1], weft_api::names::PORT_OPERATOR).into(),
            postgres: None,
            redis: None,
        };
        Ok(Self {
            cx: Arc::clone(cx),
            fleet: Arc::clone(fleet),
            runs,
            started: unix_now(),
            plan: read_plan(&cx.state)?,
            tokens: BTreeMap::new(),
            ground,
            certificates: BTreeMap::new(),
        })
    }

    /// Makes everything run that a project says. The result names the units whose readiness is still to come.
    pub(crate) async fn apply(&mut self, project: &Project) -> Result<Changes> {
        if let Some(databases) = &project.databases {
            self.start_postgres(databases).await?;
        }
        if project.redis {
            self.start_redis().await?;
        }
        // Before the operator, so that the first thing it reads is whole.
        self.make_certificates(project)?;
        self.start_operator(&project.directory).await?;
        let specs = self.laid_out(|ground, layout| specs::units(ground, project, layout))?;
        let names: Vec<(String, String)> =
            specs.iter().map(|spec| (spec.name.clone(), spec.place.address.to_string())).collect();
        let changes = self.fleet.lay_out(specs);
        for (name, address) in names.iter().filter(|(name, _)| changes.added.contains(name)) {
            self.cx.terminal.begin(name, &format!("starting on {address}"));
        }
        Ok(changes)
    }

    /// Addresses and secrets of private servers, for `ready.json`.
    pub(crate) fn servers(&self) -> BTreeMap<&'static str, String> {
        let servers = [("postgres", &self.ground.postgres), ("redis", &self.ground.redis)];
        servers.into_iter().filter_map(|(name, url)| Some((name, url.clone()?))).collect()
    }

    /// Files of the certificates made here, by Secret.
    pub(crate) fn certificates(&self) -> &BTreeMap<String, PathBuf> {
        &self.certificates
    }

    async fn start_postgres(&mut self, databases: &[String]) -> Result<()> {
        let (name, port) = ("postgres", 5432);
        let place = self.place(name, &vec![(format!("app:{name}"), port)])?;
        let address = place.socket("app:postgres").context("PostgreSQL has no port")?;
        let new = !self.fleet.names().contains(name);
        if new {
            self.cx.terminal.begin(name, "preparing");
        }
        let server = postgres::prepare(&self.cx, address).await?;
        self.ground.postgres = Some(server.url.clone());
        if new {
            self.bring_up(specs::server(server.process.clone(), place, address)).await?;
        }
        postgres::create_databases(&server, databases).await.map_err(|error| self.with_log(name, error))
    }

    async fn start_redis(&mut self) -> Result<()> {
        let (name, port) = ("redis", 6379);
        let place = self.place(name, &vec![(format!("app:{name}"), port)])?;
        if self.fleet.names().contains(name) {
            return Ok(());
        }
        let address = place.socket("app:redis").context("Redis has no port")?;
        self.cx.terminal.begin(name, "preparing");
        let server = redis::prepare(&self.cx, address)?;
        self.ground.redis = Some(server.url);
        self.bring_up(specs::server(server.process, place, address)).await
    }

    async fn start_operator(&mut self, directory: &Path) -> Result<()> {
        let needs = vec![("grpc".to_owned(), weft_api::names::PORT_OPERATOR), ("admin".to_owned(), 15014)];
        let place = self.place(OPERATOR, &needs)?;
        if self.fleet.names().contains(OPERATOR) {
            return Ok(());
        }
        self.ground.operator = place.socket("grpc").context("the operator has no port")?;
        self.cx.terminal.begin(OPERATOR, "starting");
        let spec = specs::operator(&self.ground, directory, place)?;
        self.bring_up(spec).await?;
        let roots = self.cx.state.path("roots.pem");
        let deadline = Instant::now() + UP_WITHIN;
        while !roots.is_file() {
            if Instant::now() > deadline {
                bail!("the operator did not write {}; see: weft logs operator", roots.display());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Starts a unit that others depend on and waits for it.
    async fn bring_up(&self, spec: UnitSpec) -> Result<()> {
        let (name, address) = (spec.name.clone(), spec.place.address);
        let begin = Instant::now();
        self.fleet.add(spec);
        if !self.cx.board.wait(UP_WITHIN, |board| board.is_ready(&name)).await {
            return Err(
                self.with_log(&name, anyhow::anyhow!("{name} did not come up in {} s", UP_WITHIN.as_secs()))
            );
        }
        self.cx
            .terminal
            .done(&name, &format!("{address}  ready after {:.1} s", begin.elapsed().as_secs_f64()));
        Ok(())
    }

    /// The error with the end of the unit's log, where the cause stands.
    fn with_log(&self, name: &str, error: anyhow::Error) -> anyhow::Error {
        let path = self.cx.state.log(name);
        let end = last_lines(&path, 15).join("\n  ");
        error.context(format!("{name} does not work; the end of its log {}:\n  {end}\n", path.display()))
    }

    fn make_certificates(&mut self, project: &Project) -> Result<()> {
        for gateway in &project.gateways {
            for (secret, hosts) in &gateway.certificates {
                let name = (gateway.namespace.as_str(), secret.as_str());
                let file = certificate::ensure(&self.cx.state, name, hosts, unix_now())?;
                self.certificates.insert(format!("{}/{secret}", gateway.namespace), file);
            }
        }
        Ok(())
    }

    fn place(&mut self, name: &str, needs: &Needs) -> Result<Place> {
        self.laid_out(|_, layout| layout.place(name, needs))
    }

    /// Chooses places while no other run of this user does, and keeps them.
    fn laid_out<T>(&mut self, choose: impl FnOnce(&Ground, &mut Layout<'_>) -> Result<T>) -> Result<T> {
        let _turn = self.runs.lock().context("cannot lock the notes of runs")?;
        let root = self.cx.state.root();
        let others = self.runs.alive().into_iter().filter(|note| note.state != root);
        let taken: BTreeSet<_> = others.flat_map(|note| note.addresses).collect();
        let mut layout = Layout {
            plan: &mut self.plan,
            tokens: &mut self.tokens,
            running: self.fleet.names(),
            net: Net::of_this_machine(taken),
        };
        let chosen = choose(&self.ground, &mut layout)?;
        let text = serde_json::to_vec_pretty(&self.plan)?;
        write_whole(&self.cx.state.path("plan.json"), &text, 0o600).context("cannot write plan.json")?;
        let note = RunNote {
            state: root.to_owned(),
            started: self.started,
            addresses: self.plan.private_addresses(),
        };
        self.runs.note(&self.cx.state, &note)?;
        Ok(chosen)
    }
}

fn read_plan(state: &State) -> Result<Plan> {
    match fs::read_to_string(state.path("plan.json")) {
        Ok(text) => Plan::from_json(&text),
        Err(_) => Ok(Plan::default()),
    }
}
