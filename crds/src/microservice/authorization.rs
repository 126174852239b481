//! Who may call what of a service.
//!
//! A `Deny` rule that matches wins, then an `Allow` rule that matches, then `default`. Identities come from mutual
//! TLS and claims from the checked token, never from what a caller says of itself.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::rules;

/// Who may call what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::cel(rules::AUTHORIZATION)))]
pub struct Authorization {
    /// What happens to a request that no rule matches: `Deny` or `Allow`. Default: `Deny`. (Without the whole block
    /// everything is allowed.) Example: `Deny`.
    #[serde(default = "deny")]
    pub default: Effect,

    /// Rules. One that denies wins over those that allow, whatever the order. Default: none. At most 64, names unique.
    /// Example: `[{name: customers, from: {services: [gateway]}, to: {methods: [GET]}}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub rules: Vec<AuthorizationRule>,

    /// With `true` what would be refused is logged and counted, and nothing is refused. Default: `false`.
    /// Example: `true`.
    #[serde(default)]
    pub audit: bool,
}

impl Default for Authorization {
    fn default() -> Self {
        Self { default: Effect::Deny, rules: Vec::new(), audit: false }
    }
}

/// Whether a request goes through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Effect {
    /// It goes through.
    #[default]
    Allow,
    /// It is refused.
    Deny,
}

/// One rule. It matches when `from`, `to` and `when` all do; what is left out matches everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorizationRule {
    /// Name, which the log and the admin page give for a refused request. 1 to 63 lower-case letters, digits and
    /// dashes, unique in the service. Example: `customers`.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// What happens to a request that matches: `Allow` or `Deny`. Default: `Allow`. Example: `Deny`.
    #[serde(default)]
    pub action: Effect,

    /// Who calls. Default: anyone. Example: `{services: [gateway]}`.
    #[serde(default, skip_serializing_if = "RuleFrom::is_empty")]
    pub from: RuleFrom,

    /// What is called. Default: everything. Example: `{methods: [GET], paths: ["/orders*"]}`.
    #[serde(default, skip_serializing_if = "RuleTo::is_empty")]
    pub to: RuleTo,

    /// What else must hold. Default: nothing. Example: `{claims: {role: [customer, admin]}}`.
    #[serde(default, skip_serializing_if = "RuleWhen::is_empty")]
    pub when: RuleWhen,
}

/// Callers. A caller matches when it is in any of the lists given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleFrom {
    /// Microservices or Gateways by name, of the same namespace unless written `namespace/name`. Default: none.
    /// At most 64. Example: `[gateway, billing/invoice]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(
            length(max = 317),
            regex(pattern = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?/)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")
        )
    )]
    pub services: Vec<String>,

    /// Namespaces, every meshed workload of which matches. Default: none. At most 64. Example: `[shop]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))
    )]
    pub namespaces: Vec<String>,

    /// SPIFFE identities, exact or with `*` at the end. Default: none. At most 64.
    /// Example: `[spiffe://cluster.local/ns/shop/sa/gateway]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 2048), regex(pattern = r"^spiffe://[^*\s]+\*?$")))]
    pub identities: Vec<String>,
}

impl RuleFrom {
    /// Whether it names no one, which means anyone.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What is called. A request must match each of the lists given, by one of its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleTo {
    /// Methods, in capitals. Default: all. At most 16. Example: `[GET, POST]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 32), regex(pattern = "^[A-Z]+$")))]
    pub methods: Vec<String>,

    /// Paths, exact or with `*` at the end for everything that begins so. For gRPC `/package.Service/Method`.
    /// Default: all. At most 64. Example: `["/orders*"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 1024), regex(pattern = r"^/[^*?#\s]*\*?$")))]
    pub paths: Vec<String>,

    /// Ports of the process (`targetPort`). 1 to 65535. Default: all. At most 32. Example: `[8080]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(range(min = 1, max = 65535)))]
    pub ports: Vec<u16>,

    /// Hosts, exact or with `*.` in front for every subdomain. Default: all. At most 32. Example: `["*.shop.example"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(max = 253), regex(pattern = r"^(\*\.)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))
    )]
    pub hosts: Vec<String>,
}

impl RuleTo {
    /// Whether it names nothing, which means everything.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What else must hold. Each claim and header named must have one of the values given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleWhen {
    /// Claims of the token, each with values of which one must be there; `*` alone means any value. A claim inside
    /// another is written with a dot. Default: none. At most 16, with 1 to 64 values each.
    /// Example: `{role: [customer, admin]}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "values_by_name")]
    pub claims: BTreeMap<String, Vec<String>>,

    /// Headers of the request, each with values of which it must have one; `*` alone means any value. Default: none.
    /// At most 16, with 1 to 64 values each. Example: `{x-channel: [web]}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "values_by_name")]
    pub headers: BTreeMap<String, Vec<String>>,
}

impl RuleWhen {
    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn deny() -> Effect {
    Effect::Deny
}

pub(super) fn values_by_name(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {
            "type": "array", "minItems": 1, "maxItems": 64,
            "items": {"type": "string", "maxLength": 1024}
        }
    })
}
