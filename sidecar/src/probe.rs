//! Health checks of the application, made for the kubelet: through the pod's redirection and mutual TLS it cannot reach
//! the application itself. `/probe/<container>/<liveness|readiness|startup>` on the health port asks the application
//! where the kubelet would have, on the address it asked us at, and judges as the kubelet does. Which checks there are is
//! a setting (`WEFT_PROBES`); those that run a command stay with the kubelet.

mod grpc;
mod http;
mod tls;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use ::http::StatusCode;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::pages::{Answer, text};

/// The checks of a pod's containers, by `<container>/<probe>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Probes(Arc<HashMap<String, Probe>>);

/// One check.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Probe {
    http: Option<http::Check>,
    tcp: Option<Tcp>,
    grpc: Option<grpc::Check>,
    #[serde(default = "a_second")]
    timeout_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tcp {
    port: u16,
}

/// Why the application is not well, in words for the pod's events.
type Sick = String;

impl Probes {
    /// Reads the setting.
    pub fn parse(text: &str) -> Result<Self, String> {
        let all: HashMap<String, Probe> =
            serde_json::from_str(text).map_err(|error| format!("not the JSON of health checks: {error}"))?;
        let kinds = |probe: &Probe| {
            [probe.http.is_some(), probe.tcp.is_some(), probe.grpc.is_some()]
                .into_iter()
                .filter(|is| *is)
                .count()
        };
        match all.iter().find(|(_, probe)| kinds(probe) != 1) {
            Some((name, _)) => Err(format!("`{name}` must be exactly one of http, tcp and grpc")),
            None => Ok(Self(Arc::new(all))),
        }
    }

    /// Makes the check of this name against the application at this address.
    pub async fn ask(&self, name: &str, app: IpAddr) -> Answer {
        let Some(probe) = self.0.get(name) else {
            return text(StatusCode::NOT_FOUND, "no such health check\n");
        };
        let limit = Duration::from_millis(probe.timeout_ms);
        let outcome = timeout(limit, probe.ask(app)).await;
        match outcome.unwrap_or_else(|_| Err(format!("no answer within {limit:?}"))) {
            Ok(()) => text(StatusCode::OK, "well\n"),
            Err(sick) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{sick}\n")),
        }
    }
}

impl Probe {
    async fn ask(&self, app: IpAddr) -> Result<(), Sick> {
        if let Some(check) = &self.http {
            return check.ask(app).await;
        }
        if let Some(check) = &self.grpc {
            return check.ask(app).await;
        }
        let Some(check) = &self.tcp else { return Ok(()) };
        connect((app, check.port).into()).await.map(drop)
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, Sick> {
    TcpStream::connect(address).await.map_err(|error| format!("cannot connect to {address}: {error}"))
}

/// A call, driven by the connection it is made on. The connection may end just when the answer is there; where there is
/// none, the call says why.
async fn over<T>(
    connection: impl Future<Output = hyper::Result<()>>,
    call: impl Future<Output = Result<T, Sick>>,
) -> Result<T, Sick> {
    let mut call = pin!(call);
    tokio::select! {
        answer = &mut call => answer,
        _ = connection => call.await,
    }
}

/// The kubelet's own default.
fn a_second() -> u64 {
    1000
}

#[cfg(test)]
mod tests;
