//! Talks to a run through its control socket: `weft stop`, `start` and `restart`, and the status that other commands
//! need. The other end is run/control.rs.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http::{Method, StatusCode};

use crate::api::{Done, RunStatus};
use crate::http::{CallError, Server, call};
use crate::run::terminal::print_line;
use crate::settings::{NameArgs, StateArgs};
use crate::state::{self, State};

/// A question is answered at once.
const ASK: Duration = Duration::from_secs(10);
/// A command may wait for several instances to drain and become ready.
const ACT: Duration = Duration::from_mins(10);

/// Stops, starts or restarts something.
pub(crate) async fn run(verb: &str, args: &NameArgs) -> Result<ExitCode> {
    let state = find(&args.state)?;
    let answer = ask(&state, Method::POST, &format!("/{verb}/{}", args.name), ACT).await?;
    let done: Done = serde_json::from_slice(&answer).context("cannot read the answer of `weft run`")?;
    print_line(&done.message);
    Ok(ExitCode::SUCCESS)
}

/// The run that the flags mean.
pub(crate) fn find(args: &StateArgs) -> Result<State> {
    state::find(args.state.as_deref(), args.runtime.as_deref())
}

/// What a run says of itself.
pub(crate) async fn status(state: &State) -> Result<RunStatus> {
    let answer = ask(state, Method::GET, "/status", ASK).await?;
    serde_json::from_slice(&answer).context("cannot read the answer of `weft run`; is it of another version?")
}

async fn ask(state: &State, method: Method, path: &str, within: Duration) -> Result<bytes::Bytes> {
    let socket = state.control();
    let answer = call(Server::Unix(&socket), method, path, within).await;
    let (code, body) = match answer {
        Err(CallError::Connect(_)) => {
            bail!("nothing runs in {}; start it with `weft run DIR`", state.root().display())
        }
        other => other.context("`weft run` does not answer")?,
    };
    if code == StatusCode::OK {
        return Ok(body);
    }
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    bail!("{}", problem["detail"].as_str().unwrap_or("the run refused"))
}
