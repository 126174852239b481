//! What the operator says of the running mesh at `/status.json` on its admin port, and `weft status` prints: services
//! with their instances, gateways with their addresses, keys, and the problems of the configuration.
//! Only the shape; the operator's `status_writer` and `server/admin` fill it. Times are seconds since the Unix epoch.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// The whole mesh at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshStatus {
    /// Version of the operator.
    pub version: String,
    /// Trust domain of all identities.
    pub trust_domain: String,
    /// When this was said.
    pub time: i64,
    /// When the newest root certificate ends.
    pub root_expires: i64,
    /// In order of namespace and name.
    pub services: Vec<ServiceStatus>,
    /// In order of namespace and name.
    pub gateways: Vec<GatewayStatus>,
    /// Key sets that JWT policies use.
    pub keys: Vec<KeysStatus>,
    /// What is wrong with the configuration; while there are any, the last good one is served.
    pub problems: Vec<Problem>,
}

/// A service of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceStatus {
    /// Namespace of the Microservice.
    pub namespace: String,
    /// Name of the Microservice.
    pub name: String,
    /// Accepted, Ready, Meshed, Secured.
    pub conditions: Vec<Condition>,
    /// In order of name.
    pub instances: Vec<InstanceStatus>,
}

/// A gateway and where it is reached.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayStatus {
    /// Namespace of the Gateway.
    pub namespace: String,
    /// Name of the Gateway.
    pub name: String,
    /// Where its listeners are bound.
    pub addresses: Vec<ListenerAddress>,
    /// In order of name.
    pub instances: Vec<InstanceStatus>,
}

/// Where one listener of a gateway is bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerAddress {
    /// Name of the listener in the Gateway.
    pub listener: String,
    /// Its address.
    pub address: SocketAddr,
}

/// A condition of a resource, as in Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// `Ready`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word in upper camel case, stable.
    pub reason: String,
    /// For a person.
    pub message: String,
}

/// One running copy of a service or gateway, with its proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceStatus {
    /// `order-0`.
    pub name: String,
    /// Address of the instance.
    pub address: IpAddr,
    /// Its health check passes.
    pub ready: bool,
    /// It has a proxy.
    pub meshed: bool,
    /// Its proxy holds a configuration stream now.
    pub connected: bool,
    /// Version of the proxy; empty before it connected.
    #[serde(default)]
    pub proxy_version: String,
    /// How its configuration stands.
    pub config: ConfigState,
    /// Hash of the configuration it acknowledged last; empty before.
    #[serde(default)]
    pub acked_version: String,
    /// Why it refused the newest configuration; empty when it did not.
    #[serde(default)]
    pub refusal: String,
    /// When its certificate ends; 0 before it has one.
    #[serde(default)]
    pub certificate_expires: i64,
    /// Its circuit breakers: this instance is the caller.
    #[serde(default)]
    pub breakers: Vec<Breaker>,
    /// Requests in flight.
    #[serde(default)]
    pub active_requests: u32,
    /// Connections open.
    #[serde(default)]
    pub open_connections: u32,
}

/// How the configuration of a proxy stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ConfigState {
    /// No stream yet, nothing acknowledged.
    #[default]
    None,
    /// Something is on its way.
    Pending,
    /// All that concerns it is acknowledged.
    Synced,
    /// It refused the newest and runs on its last good one.
    Refused,
}

/// A circuit breaker of a caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Breaker {
    /// `shop/product:http`.
    pub destination: String,
    /// Whether requests pass.
    pub state: BreakerState,
    /// Failures counted in the current state.
    pub failures: u32,
    /// Successes counted in the current state.
    pub successes: u32,
}

/// State of a circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BreakerState {
    /// Requests pass.
    Closed,
    /// Requests are refused.
    Open,
    /// Trial requests pass.
    HalfOpen,
}

impl From<crate::v1::BreakerState> for BreakerState {
    fn from(state: crate::v1::BreakerState) -> Self {
        match state {
            crate::v1::BreakerState::Closed => Self::Closed,
            crate::v1::BreakerState::Open => Self::Open,
            crate::v1::BreakerState::HalfOpen => Self::HalfOpen,
        }
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Closed => "CLOSED",
            Self::Open => "OPEN",
            Self::HalfOpen => "HALF_OPEN",
        })
    }
}

/// A key set that JWT policies use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KeysStatus {
    /// Name of the Keys resource.
    pub name: String,
    /// When it was fetched last; 0: never.
    pub fetched: i64,
    /// Why the last fetch failed; empty when it did not. The last good keys stay in use.
    pub error: String,
}

/// Something wrong with the configuration: where, what, and what to do about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Problem {
    /// File, as given; empty in a cluster.
    pub file: String,
    /// Line in the file, from 1; 0: not known.
    pub line: u32,
    /// Column in the line, from 1; 0: not known.
    pub column: u32,
    /// `Microservice shop/order`; empty where the file could not be read that far.
    pub resource: String,
    /// `spec.ports[0].port`; empty where it concerns the whole resource.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead; empty where the message says it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    /// `file:line:column: resource: field: message; remedy`, leaving out what is not known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            f.write_str(&self.file)?;
            for position in [self.line, self.column].into_iter().take_while(|position| *position > 0) {
                write!(f, ":{position}")?;
            }
            f.write_str(": ")?;
        }
        for part in [&self.resource, &self.field].into_iter().filter(|part| !part.is_empty()) {
            write!(f, "{part}: ")?;
        }
        f.write_str(&self.message)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_prints_what_is_known_of_it() {
        let problem = Problem {
            file: "shop/order.yaml".into(),
            line: 7,
            column: 5,
            resource: "Microservice shop/order".into(),
            field: "spec.port".into(),
            message: "unknown field".into(),
            remedy: "write `ports`".into(),
        };
        let all = "shop/order.yaml:7:5: Microservice shop/order: spec.port: unknown field; write `ports`";
        assert_eq!(problem.to_string(), all);
        let short = Problem { file: "a.yaml".into(), message: "cannot be read".into(), ..Problem::default() };
        assert_eq!(short.to_string(), "a.yaml: cannot be read");
    }

    #[test]
    fn a_status_comes_back_from_json_and_tolerates_what_is_missing() {
        let json = r#"{"version":"0.1.0","services":[{"namespace":"shop","name":"order","instances":[{"name":"order-0",
            "address":"127.0.2.1","ready":true,"meshed":true,"connected":true,"config":"synced","breakers":
            [{"destination":"shop/product:http","state":"HALF_OPEN","failures":0,"successes":1}]}]}]}"#;
        let status: MeshStatus = serde_json::from_str(json).unwrap();
        let instance = &status.services[0].instances[0];
        assert_eq!(
            (instance.config, instance.breakers[0].state),
            (ConfigState::Synced, BreakerState::HalfOpen)
        );
        let again = serde_json::from_str(&serde_json::to_string(&status).unwrap()).unwrap();
        assert_eq!(status, again);
    }
}
