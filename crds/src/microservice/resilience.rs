//! How callers treat a service: timeouts, retries, breaker, ejection, limits, fallback and faults.
//!
//! Every field is optional because the mesh may give a default. [`crate::microservice::effective`] puts the
//! service's values, the mesh's and the built-in ones together. Nothing here acts; callers' sidecars do.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;
use crate::microservice::authorization::values_by_name;
use crate::microservice::retry_on::RetryOn;
use crate::size::Size;
use crate::{defaults, rules};

/// How callers treat a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resilience {
    /// Time for a whole request, retries included, until its answer begins. `0s` means no limit. Default: `5s`.
    /// Example: `2s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,

    /// Time to connect to an instance, TLS included. More than `0s`. Default: `1s`. Example: `500ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::cel(rules::POSITIVE)))]
    pub connect_timeout: Option<Duration>,

    /// Time that a stream, WebSocket or TCP connection may stay silent. `0s` means no limit. Default: `1h`.
    /// Example: `10m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,

    /// Trying again. Default: none; only a connection that failed before the request left is tried on another
    /// instance. With `{}` the defaults of the fields hold. Example: `{attempts: 2, retryOn: [connect, 503]}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,

    /// Stopping calls to a service that fails. Default: none. With `{}` the defaults of the fields hold.
    /// Example: `{consecutiveFailures: 5, openFor: 60s}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<CircuitBreaker>,

    /// Leaving out single instances that fail. Default: none. With `{}` the defaults of the fields hold.
    /// Example: `{consecutiveFailures: 5, eject: 30s}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outlier_detection: Option<OutlierDetection>,

    /// What one sidecar may have open to the service, and how large a request may be. What is over is refused at once and ejects nobody.
    /// Default: each field's own. Example: `{requests: 1000}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,

    /// What callers get while the breaker is open or no answer comes. Default: none, a refusal. Example: `{stale: 10m}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Fallback>,

    /// Faults to try out how callers bear them. Each is decided by itself. Default: none. At most 8.
    /// Example: `[{percent: 5, delay: 2s}, {percent: 1, abort: {status: 503}}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub faults: Vec<Fault>,
}

/// Trying again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retries {
    /// Retries after the first attempt. 0 to 10; 0 switches the mesh's default off. Default: `3`. Example: `2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10))]
    pub attempts: Option<u32>,

    /// Pauses between attempts. Default: each field's own. Example: `{base: 100ms, max: 1s}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,

    /// How many retries there may be beside other requests, so that retries never flood a service in trouble.
    /// Default: each field's own. Example: `{percent: 10}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<RetryBudget>,

    /// What is tried again: `connect`, `reset`, `timeout`, or a status from 400 to 599. 1 to 16 entries.
    /// Default: `[connect, reset, 502, 503, 504]`. Example: `[connect, 503]`.
    // Not named `on`, which YAML 1.1, and so kubectl, reads as `true`.
    #[serde(rename = "retryOn", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub on: Option<Vec<RetryOn>>,

    /// Sending a GET or HEAD without body to a second instance while the first is slow; the first good answer counts.
    /// Takes from the budget, and counts as an attempt. Default: none. Example: `{after: 50ms, max: 1}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hedge: Option<Hedge>,
}

/// Sending a request to a second instance while the first is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hedge {
    /// How long the first may take; somewhat more than most answers do. More than `0s`. Example: `50ms`.
    #[schemars(extend("x-kubernetes-validations" = rules::cel(rules::POSITIVE)))]
    pub after: Duration,

    /// Further instances that are asked, each after as long again. 1 to 3. Default: `1`. Example: `2`.
    #[serde(default = "defaults::hedge_max")]
    #[schemars(range(min = 1, max = 3))]
    pub max: u32,
}

/// Pauses between attempts: `base`, then twice as long each time, up to `max`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::cel(rules::BACKOFF)))]
pub struct Backoff {
    /// First pause. At most `max`. Default: `1s`. Example: `100ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Duration>,

    /// Longest pause. Default: `10s`. Example: `1s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Duration>,

    /// Share of a pause that is random. 0 to 1. Default: `0.5`. Example: `0.2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub jitter: Option<f64>,
}

/// How many retries there may be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetryBudget {
    /// Retries in percent of requests. 0 to 1000. Default: `20`. Example: `10`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1000.0))]
    pub percent: Option<f64>,

    /// Retries per second allowed in any case. 0 to 100000. Default: `10`. Example: `5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub min_per_second: Option<u32>,
}

/// Stopping calls to a service that fails.
///
/// There are two rules: failures in a row, and a share of failures. Where only one is named, only that one holds;
/// where neither or both are, both do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::cel(rules::CIRCUIT_BREAKER)))]
pub struct CircuitBreaker {
    /// With `false` the mesh's default is switched off. Default: `true`. Example: `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,

    /// Failures in a row that open the breaker. 1 to 10000. Default: `5`, unless only `failureRatio` is named.
    /// Example: `10`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub consecutive_failures: Option<u32>,

    /// Share of failures in the window that opens the breaker. More than 0, at most 1. Default: `0.6`, unless only
    /// `consecutiveFailures` is named. Example: `0.5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub failure_ratio: Option<f64>,

    /// Requests in the window below which the share says nothing. 1 to 100000. Default: `3`. Example: `20`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub min_requests: Option<u32>,

    /// Window over which the share is taken. More than `0s`. Default: `10s`. Example: `30s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::cel(rules::POSITIVE)))]
    pub window: Option<Duration>,

    /// How long it stays open before it lets trial requests through. More than `0s`. Default: `60s`. Example: `10s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::cel(rules::POSITIVE)))]
    pub open_for: Option<Duration>,

    /// Trial requests while half open; as many successes close the breaker, one failure opens it again. 1 to 1000.
    /// Default: `3`. Example: `1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub half_open_requests: Option<u32>,
}

/// Leaving out single instances that fail. Requests over a limit never count as failures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OutlierDetection {
    /// With `false` the mesh's default is switched off. Default: `true`. Example: `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,

    /// Failures in a row that eject an instance. 1 to 10000. Default: `5`. Example: `3`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub consecutive_failures: Option<u32>,

    /// How long it is left out the first time; longer each time after. More than `0s`. Default: `30s`. Example: `10s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::cel(rules::POSITIVE)))]
    pub eject: Option<Duration>,

    /// Most instances left out at once, in percent. 0 to 100. Default: `50`. Example: `30`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub max_ejected_percent: Option<u8>,

    /// Where less than this share of the instances would be in use, all are, ejected or not: the fault is probably not
    /// theirs, and the few that are left would fall too. In percent, 0 to 100; 0 means never. Default: `0`.
    /// Example: `60`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub panic_percent: Option<u8>,
}

/// What one sidecar may have open to the service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Connections. 1 to 1000000. Default: `1024`. Example: `100`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub connections: Option<u32>,

    /// Requests that wait for a connection. 0 to 1000000. Default: `1024`. Example: `100`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub pending: Option<u32>,

    /// Requests under way. 1 to 1000000. Default: `4096`. Example: `1000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests: Option<u32>,

    /// Bytes of a request's body: the service's own sidecar refuses more with 413, before the service sees it where the
    /// length is known, else by breaking it off. Default: no limit of the service. Example: `10Mi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Size>,
}

/// What callers get while the breaker is open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fallback {
    /// Serve the last good answer to the same GET, if it is no older. More than `0s`. Default: `10m`. Example: `1h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::cel(rules::POSITIVE)))]
    pub stale: Option<Duration>,
}

/// A fault made on purpose. Exactly one of `delay` and `abort`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::cel(rules::FAULT)))]
pub struct Fault {
    /// Requests that meet it, in percent. 0 to 100. Example: `5`.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub percent: f64,

    /// How long a request is held back. Default: none. Example: `2s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Duration>,

    /// The answer instead of the service's. Default: none. Example: `{status: 503}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abort: Option<Abort>,

    /// Requests that may meet it. All that is given must hold. Default: all. Example: `{headers: {x-chaos: [latency]}}`.
    #[serde(default, skip_serializing_if = "FaultWhen::is_empty")]
    pub when: FaultWhen,
}

/// Requests that may meet a fault. A request must match each of the lists given, by one of its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultWhen {
    /// Methods, in capitals. Default: all. At most 16. Example: `[GET, POST]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 32), regex(pattern = "^[A-Z]+$")))]
    pub methods: Vec<String>,

    /// Paths as the caller writes them, exact or with `*` at the end for everything that begins so. Default: all.
    /// At most 64. Example: `["/orders*"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 1024), regex(pattern = r"^/[^*?#\s]*\*?$")))]
    pub paths: Vec<String>,

    /// Headers, each with values of which the request must have one; `*` alone means any value. Default: none.
    /// At most 16, with 1 to 64 values each. Example: `{x-chaos: [latency]}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "values_by_name")]
    pub headers: BTreeMap<String, Vec<String>>,
}

impl FaultWhen {
    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// An answer instead of the service's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Abort {
    /// Its status. 400 to 599. Example: `503`.
    #[schemars(range(min = 400, max = 599))]
    pub status: u16,
}

/// A [`Fault`] as the one thing that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAction {
    /// Hold the request back for that long.
    Delay(Duration),
    /// Answer with that status.
    Abort(u16),
}

impl Fault {
    /// What happens; none where it says nothing, which validation refuses.
    pub fn action(&self) -> Option<FaultAction> {
        let abort = self.abort.as_ref().map(|abort| FaultAction::Abort(abort.status));
        abort.or(self.delay.map(FaultAction::Delay))
    }
}
