//! `weft status` of this machine: what runs, as the supervisor knows it (processes, health) and as the operator knows it (mutual TLS,
//! certificates, circuit breakers, problems). With the operator gone, the first half still prints. That of a cluster is cluster/status.rs.

pub(crate) mod table;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use http::Method;
use serde::Serialize;
use weft_api::status::MeshStatus;

use crate::api::RunStatus;
use crate::http::{Server, call};
use crate::place::{self, Place};
use crate::run::clock::unix_now;
use crate::run::terminal::print_line;
use crate::settings::{Output, StatusArgs};
use crate::state::State;
use crate::{cluster, control};

/// The operator answers from memory.
const PATIENCE: Duration = Duration::from_secs(3);

/// Both halves, as `--json` prints them.
#[derive(Debug, Serialize)]
struct Both {
    run: RunStatus,
    /// Nothing while the operator cannot be reached.
    mesh: Option<MeshStatus>,
}

/// Prints the status.
pub(crate) async fn run(args: &StatusArgs) -> Result<ExitCode> {
    let output = if args.json { Output::Json } else { args.output };
    match place::choose(&args.state, &args.cluster).await? {
        Place::Run(state) => of_run(&state, output).await,
        Place::Cluster(cluster) => cluster::status::run(&cluster, output).await,
    }
}

async fn of_run(state: &State, output: Output) -> Result<ExitCode> {
    let run = control::status(state).await?;
    let mesh = match run.operator_admin {
        Some(admin) => ask_operator(admin).await,
        None => Err(anyhow::anyhow!("the operator has not started yet")),
    };
    if output == Output::Json {
        print_line(&serde_json::to_string_pretty(&Both { run, mesh: mesh.ok() })?);
        return Ok(ExitCode::SUCCESS);
    }
    for line in table::lines(&run, mesh.as_ref().map_err(|error| format!("{error:#}")), unix_now()) {
        print_line(&line);
    }
    Ok(ExitCode::SUCCESS)
}

async fn ask_operator(admin: SocketAddr) -> Result<MeshStatus> {
    let answer = call(Server::Tcp(admin), Method::GET, "/status.json", PATIENCE).await;
    let (_, body) = answer.with_context(|| format!("the operator at http://{admin} cannot be reached"))?;
    serde_json::from_slice(&body).context("cannot read what the operator says; is it of another version?")
}
