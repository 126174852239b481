//! What a run says while its services come up, and once they are: addresses and next steps for a person on the
//! terminal, `ready.json` in the state folder for programs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::Run;
use super::assembly::Assembly;
use super::settled::settled;
use super::specs::OPERATOR;
use crate::api::{Kind, UnitStatus};
use crate::state::write_whole;

/// After this long without news, what is missing is named.
const SILENCE: Duration = Duration::from_secs(30);

/// What is still to be announced.
pub(crate) struct Welcome {
    began: Instant,
    waiting: BTreeSet<String>,
    servers: BTreeMap<&'static str, String>,
    certificates: BTreeMap<String, PathBuf>,
}

/// Content of `ready.json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Ready {
    pid: u32,
    directory: PathBuf,
    state: PathBuf,
    /// Seconds from the start until everything was ready.
    seconds: f64,
    operator: Operator,
    /// `postgres` and `redis`, with passwords: the file is its owner's only.
    servers: BTreeMap<&'static str, String>,
    /// URLs of listeners, by gateway.
    gateways: BTreeMap<String, Vec<String>>,
    /// Certificates made here, by Secret: what a client of a TLS listener is to trust.
    certificates: BTreeMap<String, PathBuf>,
    instances: BTreeMap<String, Ports>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Operator {
    admin: Option<SocketAddr>,
    grpc: Option<SocketAddr>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Ports {
    address: std::net::IpAddr,
    admin: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
}

impl Welcome {
    /// Units to wait for, and what is known already.
    pub(crate) fn new(assembly: &Assembly, began: Instant, waiting: Vec<String>) -> Self {
        Self {
            began,
            waiting: waiting.into_iter().collect(),
            servers: assembly.servers(),
            certificates: assembly.certificates().clone(),
        }
    }
}

/// Says of each unit when it is ready, and then that all are.
pub(crate) async fn announce(run: Arc<Run>, mut welcome: Welcome) {
    let mut changes = run.cx.board.changes();
    while !welcome.waiting.is_empty() {
        changes.borrow_and_update();
        let status = run.cx.board.status();
        let ready: Vec<&UnitStatus> = status.iter().filter(|unit| unit.ready).collect();
        for unit in ready.into_iter().filter(|unit| welcome.waiting.remove(&unit.name)) {
            let seconds = welcome.began.elapsed().as_secs_f64();
            run.cx.terminal.done(&unit.name, &format!("{}  ready after {seconds:.1} s", unit.address));
        }
        // One that was stopped meanwhile, or left the files, is not waited for.
        welcome.waiting.retain(|name| status.iter().any(|unit| unit.wanted && unit.name == *name));
        if welcome.waiting.is_empty() {
            break;
        }
        if tokio::time::timeout(SILENCE, changes.changed()).await.is_err() {
            status
                .iter()
                .filter(|unit| welcome.waiting.contains(&unit.name))
                .for_each(|unit| name_missing(&run, unit));
        }
    }
    if !settled(&run.cx.board).await {
        run.cx.terminal.say("not every proxy has its configuration yet; see: weft status");
    }
    run.cx.terminal.settle();
    if let Err(error) = write_ready(&run, &welcome) {
        run.cx.terminal.say(&format!("cannot write ready.json: {error:#}"));
    }
    greet(&run, &welcome);
}

fn name_missing(run: &Run, unit: &UnitStatus) {
    let of = |which: &str, process: &Option<crate::api::ProcessStatus>| {
        let process = process.as_ref().filter(|process| !process.unhealthy.is_empty())?;
        let why = if process.last_end.is_empty() { &process.unhealthy } else { &process.last_end };
        Some(format!("{which}: {why}"))
    };
    let why: Vec<String> =
        [of("proxy", &unit.proxy), of("application", &unit.app)].into_iter().flatten().collect();
    run.cx.terminal.say(&format!("{} is not ready yet ({}); see: weft logs {0}", unit.name, why.join("; ")));
}

fn write_ready(run: &Run, welcome: &Welcome) -> anyhow::Result<()> {
    let units = run.cx.board.status();
    let of_kind = |kind: Kind| units.iter().filter(move |unit| unit.kind == kind);
    let ports = |unit: &UnitStatus| Ports { address: unit.address, admin: unit.admin, metrics: unit.metrics };
    let ready = Ready {
        pid: std::process::id(),
        directory: run.directory().to_owned(),
        state: run.cx.state.root().to_owned(),
        seconds: welcome.began.elapsed().as_secs_f64(),
        operator: Operator {
            admin: run.cx.board.socket(OPERATOR, "admin"),
            grpc: run.cx.board.socket(OPERATOR, "grpc"),
        },
        servers: welcome.servers.clone(),
        gateways: of_kind(Kind::Gateway).map(|unit| (unit.service.clone(), unit.urls.clone())).collect(),
        certificates: welcome.certificates.clone(),
        instances: of_kind(Kind::Service)
            .chain(of_kind(Kind::Gateway))
            .map(|unit| (unit.name.clone(), ports(unit)))
            .collect(),
    };
    Ok(write_whole(&run.cx.state.path("ready.json"), &serde_json::to_vec_pretty(&ready)?, 0o600)?)
}

fn greet(run: &Run, welcome: &Welcome) {
    let say = |line: &str| run.cx.terminal.say(line);
    say(&format!("ready in {:.1} s", welcome.began.elapsed().as_secs_f64()));
    say("");
    for unit in run.cx.board.status().iter().filter(|unit| unit.kind == Kind::Gateway) {
        say(&format!("  gateway {:<10}  {}", unit.service, unit.urls.join("  ")));
    }
    if let Some(admin) = run.cx.board.socket(OPERATOR, "admin") {
        say(&format!("  operator            http://{admin}/status.json"));
    }
    say(&format!("  state and logs      {}", run.cx.state.root().display()));
    say("");
    let mut next = [
        ("weft status", "services, circuit breakers, certificates"),
        ("weft logs NAME", "what a service and its proxies say"),
        ("Ctrl-C", "stops everything"),
    ]
    .map(|(command, what)| (command.to_owned(), what))
    .to_vec();
    let tour = run.directory().join("tour.sh");
    if tour.is_file() {
        next.insert(0, (tour.display().to_string(), "see it work, step by step"));
    }
    for line in next_steps(&next) {
        say(&line);
    }
    say("");
}

/// Commands and what they are for, in two columns.
fn next_steps(steps: &[(String, &str)]) -> Vec<String> {
    let width = steps.iter().map(|(command, _)| command.chars().count()).max().unwrap_or_default();
    steps.iter().map(|(command, what)| format!("  {command:width$}  {what}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stay_apart_however_long_a_command_is() {
        let long = "/home/someone/a/long/way/down/to/the/shop/tour.sh".to_owned();
        let lines = next_steps(&[(long.clone(), "see it work"), ("Ctrl-C".to_owned(), "stops everything")]);
        assert_eq!(lines[0], format!("  {long}  see it work"));
        assert_eq!(lines[0].find("see"), lines[1].find("stops"));
    }
}
