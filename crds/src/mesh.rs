//! `Mesh`: what holds for all services. Cluster-scoped, one, named `default`.
//!
//! Standalone reads the same object from the directory; where there is none, `MeshSpec::default()` holds.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;
use crate::microservice::{AccessLog, Mtls, Resilience};
use crate::{defaults, rules};

/// The only name a `Mesh` may have.
pub const MESH_NAME: &str = "default";

/// What holds for all services. Everything is optional.
#[expect(clippy::duplicated_attributes, reason = "each printcolumn has a type of its own")]
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "Mesh",
    plural = "meshes",
    status = "MeshStatus",
    derive = "PartialEq",
    category = "weft",
    doc = "What holds for all services: trust, traces, defaults. There is one, named `default`.",
    printcolumn(name = "Trust domain", type_ = "string", json_path = ".spec.trustDomain"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].status"#
    ),
    printcolumn(name = "Root", type_ = "string", json_path = ".status.rootExpires"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MeshSpec {
    /// First part of every identity: `spiffe://<trustDomain>/ns/<namespace>/sa/<service account>`. 1 to 253 lower-case
    /// letters, digits, dots and dashes. A change gives every workload a new identity. Default: `cluster.local`.
    /// Example: `shop.example`.
    #[serde(default = "defaults::trust_domain")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub trust_domain: String,

    /// Certificates of sidecars and of the authority that signs them. Default: each field's own.
    /// Example: `{certificateLifetime: 12h}`.
    #[serde(default)]
    pub identity: Identity,

    /// Where traces go and how many. Default: nowhere. Example: `{otlp: "http://jaeger.observe.svc:4317"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<MeshTracing>,

    /// What holds for services that do not say otherwise. Default: each field's own.
    /// Example: `{mtls: {mode: Permissive}}`.
    #[serde(default)]
    pub defaults: MeshDefaults,

    /// Redis that counts rate limits with the scope `Global`. Default: none, such limits are refused.
    /// Example: `{url: "redis://redis.weft-system.svc:6379"}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<Redis>,

    /// Which requests get a line in the access log: `None`, `Errors` or `All`. Default: `Errors`. Example: `All`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLog>,

    /// Calls to what the mesh does not know: `Allow` lets them out as they are, `RegistryOnly` refuses them.
    /// Default: `Allow`. Example: `RegistryOnly`.
    #[serde(default)]
    pub outbound_policy: OutboundPolicy,

    /// Proxies of your own in front of the gateways (load balancers, CDNs) whose `x-forwarded-for` is believed: so many
    /// addresses at its end are theirs, and the client is the one before them. It is what `client-ip` means in limits,
    /// balancing and logs. With more than there are, clients can pretend to be others. 0 to 10. Default: `0`, the client
    /// is who connects to the gateway. Example: `1`.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10))]
    pub trusted_hops: u8,
}

impl Default for MeshSpec {
    fn default() -> Self {
        Self {
            trust_domain: defaults::trust_domain(),
            identity: Identity::default(),
            tracing: None,
            defaults: MeshDefaults::default(),
            redis: None,
            access_log: None,
            outbound_policy: OutboundPolicy::default(),
            trusted_hops: 0,
        }
    }
}

/// Certificates of sidecars and of the authority that signs them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::cel(rules::IDENTITY)))]
pub struct Identity {
    /// Life of a sidecar's certificate. At least `1m`, shorter than `rootLifetime`, of which a sixth is used at most.
    /// Default: `24h`. Example: `12h`.
    #[serde(default = "defaults::certificate_lifetime")]
    pub certificate_lifetime: Duration,

    /// Share of its life after which it is renewed, in percent. 10 to 90. Default: `70`. Example: `50`.
    #[serde(default = "defaults::renew_percent")]
    #[schemars(range(min = 10, max = 90))]
    pub renew_percent: u8,

    /// Life of a root certificate that the operator makes. Default: `8760h`. Example: `720h`.
    #[serde(default = "defaults::root_lifetime")]
    pub root_lifetime: Duration,

    /// How long before its end a root is joined by its successor, which signs once all sidecars trust it. Shorter than
    /// `rootLifetime`. The annotation `weft.dev/rotate-root` of this object, with any new value, asks for a successor
    /// now. Default: `720h`. Example: `168h`.
    #[serde(default = "defaults::root_overlap")]
    pub root_overlap: Duration,

    /// A Secret with an authority of your own (`ca.crt`, `tls.crt`, `tls.key`, as cert-manager writes them) in the
    /// operator's namespace. It is followed when it is renewed. Default: none, the operator makes one.
    /// Example: `{name: weft-issuer}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer_secret: Option<IssuerSecret>,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            certificate_lifetime: defaults::CERTIFICATE_LIFETIME,
            renew_percent: defaults::RENEW_PERCENT,
            root_lifetime: defaults::ROOT_LIFETIME,
            root_overlap: defaults::ROOT_OVERLAP,
            issuer_secret: None,
        }
    }
}

/// A Secret in the operator's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IssuerSecret {
    /// Its name. 1 to 253 characters. Example: `weft-issuer`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Where traces go and how many.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MeshTracing {
    /// OTLP/gRPC endpoint that takes spans, at most 2048 characters. Default: none, no spans are sent.
    /// Example: `http://jaeger.observe.svc:4317`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s/]+(/\S*)?$"))]
    pub otlp: Option<String>,

    /// Share of requests that start a trace, where they bring none. 0 to 1. Default: `0.1`. Example: `1.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sampling: Option<f64>,
}

/// What holds for services that do not say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MeshDefaults {
    /// Mutual TLS. Default: `{mode: Strict}`. Example: `{mode: Permissive}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtls: Option<Mtls>,

    /// Timeouts, retries, breaker, limits. Default: each field's own. Example: `{timeout: 10s, circuitBreaker: {}}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resilience: Option<Resilience>,
}

/// A Redis server. Exactly one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::cel(rules::REDIS)))]
pub struct Redis {
    /// Its address, `redis` or `rediss`, at most 2048 characters. Default: none. Example: `redis://redis.weft-system.svc:6379`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^rediss?://\S+$"))]
    pub url: Option<String>,

    /// A Secret in the operator's namespace that holds the address, for one with a password. Default: none.
    /// Example: `{name: redis}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<RedisSecret>,
}

/// A key of a Secret in the operator's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RedisSecret {
    /// Name of the Secret. 1 to 253 characters. Example: `redis`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// Key in it. 1 to 253 characters. Default: `url`. Example: `address`.
    #[serde(default = "defaults::redis_secret_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// Calls to what the mesh does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OutboundPolicy {
    /// They go out as they are.
    #[default]
    Allow,
    /// They are refused.
    RegistryOnly,
}

/// What the operator reports of the mesh.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MeshStatus {
    /// `Accepted`: the resource is valid and in force. `Ready`: the authority and, where named, Redis are there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// When the newest root certificate ends. Example: `2027-11-21T10:00:00Z`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_expires: Option<Time>,

    /// Generation of the resource that this report is about. Example: `1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}
