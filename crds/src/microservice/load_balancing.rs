//! How callers choose an instance of a service.
//!
//! The policies themselves are the sidecar's; here is which one, and what is hashed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;
use crate::rules;

/// How callers choose an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::cel(rules::LOAD_BALANCING)))]
pub struct LoadBalancing {
    /// `PeakEwma` (least latency times load of two), `LeastRequest` (fewer requests of two), `RoundRobin`, `Random`,
    /// or `ConsistentHash` (the same key to the same instance). Default: `PeakEwma`. Example: `RoundRobin`.
    #[serde(default)]
    pub policy: BalancePolicy,

    /// What is hashed. Needed with the policy `ConsistentHash`, refused with others. Default: none.
    /// Example: `{header: x-user-id}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consistent_hash: Option<ConsistentHash>,

    /// How long the share of requests grows that a new instance gets, or one that comes back after it was ejected: from a
    /// tenth to all of its share. For caches and just-in-time compilers that must get warm. Refused with
    /// `ConsistentHash`. More than `0s`. Default: none, all of it at once. Example: `30s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = rules::cel(rules::POSITIVE)))]
    pub slow_start: Option<Duration>,

    /// `Any` uses all instances alike, `Prefer` those in the caller's own zone first, as long as there are some and at
    /// least half of them are not ejected. Zones are those of the `EndpointSlices`; a caller's is that of its own endpoint.
    /// Default: `Any`. Example: `Prefer`.
    #[serde(default)]
    pub zone: ZoneUse,
}

/// Which zones' instances are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ZoneUse {
    /// All alike.
    #[default]
    Any,
    /// The caller's own first.
    Prefer,
}

/// A way to choose an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum BalancePolicy {
    /// Of two at random the one with less latency times load.
    #[default]
    PeakEwma,
    /// Of two at random the one with fewer requests under way.
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// The same key to the same instance, as long as it is there.
    ConsistentHash,
}

/// What is hashed. Exactly one of the three.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::cel(rules::CONSISTENT_HASH)))]
pub struct ConsistentHash {
    /// Header whose value is hashed. 1 to 128 characters. Default: none. Example: `x-user-id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"))]
    pub header: Option<String>,

    /// Cookie whose value is hashed. 1 to 128 characters. Default: none. Example: `session`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"))]
    pub cookie: Option<String>,

    /// With `cookie`: callers' proxies set it themselves, to a random value, where a request brings none, so that a client
    /// stays with an instance without the service's help. It lasts that long; `0s` means until the browser is closed.
    /// Default: none, the service sets it. Example: `1h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie_lifetime: Option<Duration>,

    /// With `true` the client's address is hashed. Only `true` is allowed. Default: none. Example: `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [true]))]
    pub client_ip: Option<bool>,
}

/// A [`ConsistentHash`] as the one thing that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashKey<'a> {
    /// Value of that header.
    Header(&'a str),
    /// Value of that cookie.
    Cookie(&'a str),
    /// The client's address.
    ClientIp,
}

impl ConsistentHash {
    /// What is hashed; the client's address where nothing else is named.
    pub fn key(&self) -> HashKey<'_> {
        let header = self.header.as_deref().map(HashKey::Header);
        header.or(self.cookie.as_deref().map(HashKey::Cookie)).unwrap_or(HashKey::ClientIp)
    }
}
