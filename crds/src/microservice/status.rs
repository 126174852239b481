//! What the operator reports of a service.
//!
//! Unknown fields are tolerated here: an older operator must be able to read what a newer one wrote.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::microservice::mtls::MtlsMode;

/// What the operator reports of a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MicroserviceStatus {
    /// `Accepted`: the resource is valid and in force. `Ready`: enough instances serve. `Meshed`: every instance has a
    /// sidecar on the newest config. `Secured`: mutual TLS is in force with certificates that hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// Instances there are. Example: `2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,

    /// Instances whose sidecar runs on the newest config. Example: `2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meshed_replicas: Option<i32>,

    /// Mutual TLS mode in force. Example: `Strict`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtls: Option<MtlsMode>,

    /// Circuit breakers of the callers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerStatus>,

    /// When the first certificate of an instance ends. Example: `2026-11-22T10:00:00Z`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_expires: Option<Time>,

    /// Generation of the resource that this report is about. Example: `3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Circuit breakers of the callers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BreakerStatus {
    /// The worst state of all callers' breakers. Example: `Closed`.
    #[serde(default)]
    pub state: BreakerState,

    /// Callers for whom it is open, as `namespace/name`. Example: `[shop/order]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open_for: Vec<String>,
}

/// State of a circuit breaker, from best to worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum BreakerState {
    /// Requests go through.
    #[default]
    Closed,
    /// Trial requests go through.
    HalfOpen,
    /// No request goes through.
    Open,
}
