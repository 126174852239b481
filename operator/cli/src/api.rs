//! What the control socket of a run says: `GET /status`. Written by the supervisor, read by `weft status`, `logs` and
//! `proxy`. What the mesh itself says (mTLS, breakers, certificates) comes from the operator, in `weft_api::status`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A running `weft run`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunStatus {
    /// The directory it runs.
    pub(crate) directory: PathBuf,
    /// Its state folder.
    pub(crate) state: PathBuf,
    /// The supervisor's process id.
    pub(crate) pid: u32,
    /// When it was started, in seconds since the Unix epoch.
    pub(crate) started: i64,
    /// Everything that is to run is ready.
    pub(crate) ready: bool,
    /// Where the operator serves `/status.json`.
    pub(crate) operator_admin: Option<SocketAddr>,
    /// Everything it runs, servers first.
    pub(crate) units: Vec<UnitStatus>,
    /// What is wrong with the files; the last good state runs on.
    pub(crate) problems: Vec<String>,
}

/// What a part of a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Kind {
    /// A private PostgreSQL or Redis.
    Server,
    /// The operator.
    Operator,
    /// An instance of a service, with its proxy.
    Service,
    /// A gateway.
    Gateway,
}

/// One part of a run: a process, or an application with its proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UnitStatus {
    /// `order-0`, `postgres`.
    pub(crate) name: String,
    /// What it is.
    pub(crate) kind: Kind,
    /// Namespace of its Microservice or Gateway; empty for others.
    pub(crate) namespace: String,
    /// Name of its Microservice or Gateway; its own name for others.
    pub(crate) service: String,
    /// Its address.
    pub(crate) address: IpAddr,
    /// It passes its health checks.
    pub(crate) ready: bool,
    /// It is to run; false after `weft stop`.
    pub(crate) wanted: bool,
    /// Where its listeners are, for gateways.
    pub(crate) urls: Vec<String>,
    /// Admin port of its proxy.
    pub(crate) admin: Option<SocketAddr>,
    /// Metrics port of its proxy.
    pub(crate) metrics: Option<SocketAddr>,
    /// Its application, or the server itself.
    pub(crate) app: Option<ProcessStatus>,
    /// Its proxy.
    pub(crate) proxy: Option<ProcessStatus>,
}

/// One process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProcessStatus {
    /// What it does.
    pub(crate) phase: Phase,
    /// Its process id, while it runs.
    pub(crate) pid: Option<u32>,
    /// When it was started last.
    pub(crate) since: i64,
    /// How often it died and was started again.
    pub(crate) restarts: u32,
    /// How it ended last; empty before.
    pub(crate) last_end: String,
    /// Why the last health check failed; empty when it passed.
    pub(crate) unhealthy: String,
}

/// What a process does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Phase {
    /// It does not run and is not to.
    #[default]
    Stopped,
    /// It runs.
    Running,
    /// It died and is started again soon.
    Waiting,
}

/// What a command on a unit or service answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Done {
    /// Names of the units it concerned.
    pub(crate) units: Vec<String>,
    /// What happened, for a person.
    pub(crate) message: String,
}
