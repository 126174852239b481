//! `weft status`: what runs, as the supervisor knows it (processes, health) and as the operator knows it (mutual TLS,
//! certificates, circuit breakers, problems). With the operator gone, the first half still prints.

mod table;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use http::Method;
use serde::Serialize;
use weft_api::status::MeshStatus;

use crate::api::RunStatus;
use crate::control;
use crate::http::{Server, call};
use crate::run::clock::unix_now;
use crate::run::terminal::print_line;
use crate::settings::StatusArgs;

/// The operator answers from memory.
const PATIENCE: Duration = Duration::from_secs(3);

/// Both halves, as `--json` prints them.
#[derive(Debug, Serialize)]
struct Both {
    run: RunStatus,
    /// Nothing while the operator cannot be reached.
    mesh: Option<MeshStatus>,
}

/// Prints the status; fails when not everything is ready.
pub(crate) async fn run(args: &StatusArgs) -> Result<ExitCode> {
    let state = control::find(&args.state)?;
    let run = control::status(&state).await?;
    let mesh = match run.operator_admin {
        Some(admin) => ask_operator(admin).await,
        None => Err(anyhow::anyhow!("the operator has not started yet")),
    };
    if args.json {
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
