//! The running instances of services and gateways, as whoever runs them knows them: `EndpointSlice`s and Pods in a cluster,
//! the `weft run` supervisor standalone. Standalone they travel in `instances.json` in the state folder, written whole
//! and renamed into place by the supervisor, watched by the operator. Says nothing of policy.

pub mod pod;
pub mod slice;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// All instances: the content of `instances.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Instances {
    /// In order of namespace, service, name.
    pub instances: Vec<Instance>,
}

/// What an instance runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// An application with its sidecar.
    Service,
    /// `weft-proxy gateway`.
    Gateway,
    /// An application with its sidecar that is no part of a service: a pod of the mesh that no Microservice selects.
    /// Its workload is named after its service account.
    Bare,
}

/// One running (or starting) copy of a service or gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Instance {
    /// Namespace of the Microservice or Gateway.
    pub namespace: String,
    /// Name of the Microservice or Gateway.
    pub service: String,
    /// Name of the instance, `order-0`, or of the pod.
    pub name: String,
    /// Application or gateway.
    pub role: Role,
    /// Address of the pod; standalone the loopback address of this instance.
    pub address: IpAddr,
    /// By port name of the Microservice; empty for a gateway.
    #[serde(default)]
    pub ports: BTreeMap<String, PortAddresses>,
    /// Standalone: where this instance's proxy listens for each destination (`shop/user:grpc`).
    #[serde(default)]
    pub outbound: BTreeMap<String, SocketAddr>,
    /// Standalone gateways: where each listener of the Gateway (by listener name) is bound.
    #[serde(default)]
    pub listeners: BTreeMap<String, SocketAddr>,
    /// Whether it is to get traffic: its health check passes (standalone: gateways too).
    pub ready: bool,
    /// False for an instance without proxy.
    #[serde(default = "yes")]
    pub meshed: bool,
    /// Zone, for preference of near endpoints.
    #[serde(default)]
    pub zone: String,
    /// Zones whose callers it is meant for; none: nobody has said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub for_zones: Vec<String>,
    /// Service account it runs as, which is its identity; empty: that of its service or gateway.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub account: String,
    /// Its proxy runs as another workload, whose pod it is too: here it only takes requests.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
    /// Standalone: SHA-256 of the join token, lower-case hex. The token itself is in the proxy's environment only.
    #[serde(default)]
    pub token_sha256: String,
}

/// Where one port of an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortAddresses {
    /// Where the application listens.
    pub app: SocketAddr,
    /// Where peers connect: the proxy's listener standalone, the pod's own port in a cluster.
    pub peers: SocketAddr,
}

fn yes() -> bool {
    true
}
