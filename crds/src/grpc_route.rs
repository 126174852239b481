//! `GRPCRoute` of the Gateway API: which gRPC calls go where, from outside or within the mesh.
//!
//! Tolerant: fields that Weft does not act on are kept in `extra` and reported in the status.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gateway_meta::{
    Extra, HeaderModifier, ParentReference, RequestMirror, RouteStatus, Unknown, ValueMatch, ValueMatchType,
    WeightedBackend, note_backends, note_mirror, note_modifiers, note_parents, note_values,
};

/// Which gRPC calls go where.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "GRPCRoute",
    root = "GrpcRoute",
    plural = "grpcroutes",
    namespaced,
    status = "RouteStatus",
    derive = "PartialEq",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub struct GrpcRouteSpec {
    /// What it attaches to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_refs: Vec<ParentReference>,
    /// Hosts it is for, `*.` in front for every subdomain; none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// Rules; a call takes the one with the most specific match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<GrpcRouteRule>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// One rule of a `GRPCRoute`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrpcRouteRule {
    /// Name, unique in the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Calls it takes, by any of these; none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<GrpcRouteMatch>,
    /// What is done to the call and its answer, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<GrpcRouteFilter>,
    /// Where calls go, by weight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<WeightedBackend<GrpcRouteFilter>>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Calls that a rule takes; all that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrpcRouteMatch {
    /// Service and method; none means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<GrpcMethodMatch>,
    /// Metadata that must all match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<ValueMatch>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Service and method. At least one of the two is there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrpcMethodMatch {
    /// How they are compared.
    #[serde(rename = "type", default)]
    pub type_: ValueMatchType,
    /// Full name of the service; none means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Method; none means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// One thing that is done to a call or its answer. The field that the type names is there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrpcRouteFilter {
    /// Which.
    #[serde(rename = "type")]
    pub type_: GrpcFilterType,
    /// For `RequestHeaderModifier`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_header_modifier: Option<HeaderModifier>,
    /// For `ResponseHeaderModifier`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_header_modifier: Option<HeaderModifier>,
    /// For `RequestMirror`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_mirror: Option<RequestMirror>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a filter does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GrpcFilterType {
    /// Changes the call's metadata.
    #[default]
    RequestHeaderModifier,
    /// Changes the answer's metadata.
    ResponseHeaderModifier,
    /// Sends a copy elsewhere.
    RequestMirror,
    /// Something Weft does not know.
    #[serde(untagged)]
    Other(String),
}

impl GrpcRoute {
    /// Paths of fields that Weft does not know.
    pub fn unknown_fields(&self) -> Vec<String> {
        let mut unknown = Unknown::default();
        unknown.note("spec", &self.spec.extra);
        note_parents(&mut unknown, &self.spec.parent_refs);
        for (index, rule) in self.spec.rules.iter().enumerate() {
            note_rule(&mut unknown, &format!("spec.rules[{index}]"), rule);
        }
        unknown.into_paths()
    }
}

fn note_rule(unknown: &mut Unknown, path: &str, rule: &GrpcRouteRule) {
    unknown.note(path, &rule.extra);
    for (index, matched) in rule.matches.iter().enumerate() {
        let path = format!("{path}.matches[{index}]");
        unknown.note(&path, &matched.extra);
        if let Some(method) = &matched.method {
            unknown.note(&format!("{path}.method"), &method.extra);
        }
        note_values(unknown, &format!("{path}.headers"), &matched.headers);
    }
    note_filters(unknown, path, &rule.filters);
    note_backends(unknown, path, &rule.backend_refs, note_filters);
}

fn note_filters(unknown: &mut Unknown, path: &str, filters: &[GrpcRouteFilter]) {
    for (index, filter) in filters.iter().enumerate() {
        let path = format!("{path}.filters[{index}]");
        unknown.note(&path, &filter.extra);
        let modifiers = (&filter.request_header_modifier, &filter.response_header_modifier);
        note_modifiers(unknown, &path, modifiers);
        note_mirror(unknown, &format!("{path}.requestMirror"), filter.request_mirror.as_ref());
    }
}
