//! `TLSRoute` of the Gateway API: which TLS connections go where by the server name they ask for, unopened.
//!
//! Read at `v1` (standard since Gateway API 1.5) and at the versions before it, which say the same. Tolerant: fields that
//! Weft does not act on are kept in `extra` and reported in the status.

use kube::core::ApiResource;
use kube::{CustomResource, Resource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gateway_meta::{Extra, ObjectReference, ParentReference, RouteStatus, Unknown, note_parents};

/// Versions it is served at, the newest first: which of them a cluster has depends on its release of the Gateway API.
pub const VERSIONS: [&str; 3] = ["v1", "v1alpha3", "v1alpha2"];

/// Which TLS connections go where.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "TLSRoute",
    root = "TlsRoute",
    plural = "tlsroutes",
    namespaced,
    status = "RouteStatus",
    derive = "PartialEq",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub struct TlsRouteSpec {
    /// What it attaches to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_refs: Vec<ParentReference>,
    /// Server names it is for, `*.` in front for every subdomain; none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// Rules; there is nothing to choose by, so the first takes every connection.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<TlsRouteRule>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// One rule of a `TLSRoute`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TlsRouteRule {
    /// Name, unique in the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where connections go, by weight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<TlsBackendRef>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Where connections go. The reference's own unknown fields are in its `extra`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TlsBackendRef {
    /// Share among the rule's backends; 0 means none.
    #[serde(default = "crate::gateway_meta::one")]
    pub weight: u32,
    /// The Service.
    #[serde(flatten)]
    pub reference: ObjectReference,
}

impl TlsRoute {
    /// Where an API server may keep it, by version, the newest first.
    pub fn resources() -> Vec<ApiResource> {
        let newest = ApiResource::erase::<Self>(&());
        let at = |version: &&str| ApiResource {
            version: (*version).to_owned(),
            api_version: format!("{}/{version}", Self::group(&())),
            ..newest.clone()
        };
        VERSIONS.iter().map(at).collect()
    }

    /// Paths of fields that Weft does not know.
    pub fn unknown_fields(&self) -> Vec<String> {
        let mut unknown = Unknown::default();
        unknown.note("spec", &self.spec.extra);
        note_parents(&mut unknown, &self.spec.parent_refs);
        for (at, rule) in self.spec.rules.iter().enumerate() {
            let path = format!("spec.rules[{at}]");
            unknown.note(&path, &rule.extra);
            for (at, backend) in rule.backend_refs.iter().enumerate() {
                unknown.note(&format!("{path}.backendRefs[{at}]"), &backend.reference.extra);
            }
        }
        unknown.into_paths()
    }
}
