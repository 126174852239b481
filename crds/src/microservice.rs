//! `Microservice`: one resource that says everything about one service.
//!
//! This file holds the kind and its top-level blocks; each block is a file in `microservice/`. Types here are what
//! people write; what is in force after the mesh's defaults comes from the `effective` functions of the blocks.
//! Bounds are schema attributes beside the fields, rules across fields are in [`crate::rules`].

pub mod access_log;
pub mod authentication;
pub mod authorization;
pub mod effective;
pub mod load_balancing;
pub mod mtls;
pub mod port;
pub mod quantity;
pub mod rate_limit;
pub mod resilience;
pub mod retry_on;
pub mod status;
pub mod telemetry;
pub mod workload;

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use access_log::AccessLog;
pub use authentication::{Authentication, Exempt, Jwks, JwtProvider, SecretKeyRef, TokenPlace, TokenSource};
pub use authorization::{Authorization, AuthorizationRule, Effect, RuleFrom, RuleTo, RuleWhen};
pub use effective::{
    EffectiveBreaker, EffectiveLimits, EffectiveOutlier, EffectiveResilience, EffectiveRetries, FailureRatio,
};
pub use load_balancing::{BalancePolicy, ConsistentHash, HashKey, LoadBalancing, ZoneUse};
pub use mtls::{Mtls, MtlsMode};
pub use port::{Port, Protocol};
pub use rate_limit::{Algorithm, Failure, LimitHeaders, RateLimit, RateLimitKey, Scope};
pub use resilience::{
    Abort, Backoff, CircuitBreaker, Fallback, Fault, FaultAction, FaultWhen, Hedge, Limits, OutlierDetection,
    Resilience, Retries, RetryBudget,
};
pub use retry_on::RetryOn;
pub use status::{BreakerState, BreakerStatus, MicroserviceStatus};
pub use telemetry::{EffectiveTelemetry, Telemetry, Tracing};
pub use workload::{Autoscaling, Disruption, Health, Workload};

use crate::{defaults, rules};

/// What one service is and how the mesh treats it. Everything but `ports` is optional.
#[expect(clippy::duplicated_attributes, reason = "each printcolumn has a type of its own")]
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "Microservice",
    plural = "microservices",
    namespaced,
    status = "MicroserviceStatus",
    derive = "PartialEq",
    shortname = "msvc",
    category = "weft",
    doc = "Everything about one service: what runs, its ports, who may call it and how it is called.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#,
        description = "Whether enough instances serve requests."
    ),
    printcolumn(
        name = "Meshed",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Meshed")].status"#,
        description = "Whether every instance has a sidecar that runs on the newest config."
    ),
    printcolumn(
        name = "mTLS",
        type_ = "string",
        json_path = ".status.mtls",
        description = "Mutual TLS mode in force."
    ),
    printcolumn(
        name = "Breaker",
        type_ = "string",
        json_path = ".status.breaker.state",
        description = "Worst state of the callers' circuit breakers."
    ),
    printcolumn(
        name = "Cert",
        type_ = "string",
        json_path = ".status.certificateExpires",
        description = "When the first certificate of an instance ends."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::cel(rules::MICROSERVICE)))]
pub struct MicroserviceSpec {
    /// What to run. The operator makes a Deployment, Service and `ServiceAccount` of it. Default: none; the resource
    /// attaches to what `selector` finds. Not together with `selector`. Example: `{image: shop/order:1.0, replicas: 2}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,

    /// Labels of the pods of an existing Deployment or `StatefulSet` to attach to. Default: `app.kubernetes.io/name`
    /// with the resource's name. 1 to 16 labels. Not together with `workload`. Example: `{app: order}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minProperties" = 1, "maxProperties" = 16))]
    pub selector: Option<BTreeMap<String, String>>,

    /// Ports that the service offers. 1 to 32, names and numbers unique.
    /// Example: `[{name: http, port: 80, targetPort: 8080, protocol: HTTP}]`.
    #[schemars(length(min = 1, max = 32))]
    pub ports: Vec<Port>,

    /// Mutual TLS on the way in. Default: the mesh's mode, else `Strict`. Example: `{mode: Strict}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtls: Option<Mtls>,

    /// Who the end user is: tokens that are checked before a request reaches the service.
    /// Default: none, no token is looked at. Example: `{jwt: [{issuer: "https://user.example", jwks: {uri: "http://user.shop.svc/.well-known/jwks.json"}}]}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,

    /// Who may call what. Default: none, everyone who passes mutual TLS and authentication may call everything.
    /// Example: `{rules: [{name: shop, from: {services: [gateway]}}]}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,

    /// How callers treat this service: timeouts, retries, breaker, limits. Default: the mesh's, else each field's own.
    /// Example: `{timeout: 5s, retries: {attempts: 3}, circuitBreaker: {}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resilience: Option<Resilience>,

    /// How many requests the service takes from whom. All limits must allow a request. Default: none. At most 16.
    /// Example: `[{requests: 100, per: 1m, key: client-ip}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub rate_limits: Vec<RateLimit>,

    /// How callers choose an instance. Default: `{policy: PeakEwma}`. Example: `{policy: ConsistentHash, consistentHash: {header: x-user-id}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancing: Option<LoadBalancing>,

    /// Traces and access log of this service. Default: the mesh's, else each field's own.
    /// Example: `{tracing: {sampling: 1.0}, accessLog: All}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub telemetry: Option<Telemetry>,
}

impl MicroserviceSpec {
    /// The port of that name.
    pub fn port(&self, name: &str) -> Option<&Port> {
        self.ports.iter().find(|port| port.name == name)
    }

    /// The balancing in force.
    pub fn effective_load_balancing(&self) -> LoadBalancing {
        self.load_balancing.clone().unwrap_or_default()
    }
}

impl Microservice {
    /// Labels that select the service's pods: its selector, else `app.kubernetes.io/name` with its name.
    pub fn pod_selector(&self) -> BTreeMap<String, String> {
        let by_name = || {
            BTreeMap::from([(
                defaults::NAME_LABEL.to_owned(),
                self.metadata.name.clone().unwrap_or_default(),
            )])
        };
        self.spec.selector.clone().unwrap_or_else(by_name)
    }
}
