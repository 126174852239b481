//! `HTTPRoute` of the Gateway API: which requests go where, from outside (parent Gateway) or within the mesh
//! (parent Service).
//!
//! All matches and filters of v1. Tolerant: fields that Weft does not act on are kept in `extra` and reported.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::duration::Duration;
use crate::gateway_meta::{
    Extra, HeaderModifier, ParentReference, RequestMirror, RouteStatus, Unknown, ValueMatch, WeightedBackend,
    note_backends, note_mirror, note_modifiers, note_parents, note_values,
};

/// Which requests go where.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "HTTPRoute",
    root = "HttpRoute",
    plural = "httproutes",
    namespaced,
    status = "RouteStatus",
    derive = "PartialEq",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteSpec {
    /// What it attaches to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_refs: Vec<ParentReference>,
    /// Hosts it is for, `*.` in front for every subdomain; none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// Rules; a request takes the one with the most specific match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<HttpRouteRule>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// One rule of an `HTTPRoute`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteRule {
    /// Name, unique in the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Requests it takes, by any of these; none means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<HttpRouteMatch>,
    /// What is done to the request and its answer, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<HttpRouteFilter>,
    /// Where requests go, by weight.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_refs: Vec<WeightedBackend<HttpRouteFilter>>,
    /// How long they may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<HttpRouteTimeouts>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Requests that a rule takes; all that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteMatch {
    /// Path; none means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// Headers that must all match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<ValueMatch>,
    /// Query parameters that must all match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query_params: Vec<ValueMatch>,
    /// Method, in capitals; none means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A path and how it is compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PathMatch {
    /// How it is compared.
    #[serde(rename = "type", default)]
    pub type_: PathMatchType,
    /// Path, prefix or regular expression.
    #[serde(default = "root")]
    pub value: String,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

impl Default for PathMatch {
    fn default() -> Self {
        Self { type_: PathMatchType::default(), value: root(), extra: Extra::new() }
    }
}

/// How a path is compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PathMatchType {
    /// It is equal.
    Exact,
    /// Its first elements are equal; `/a` takes `/a` and `/a/b`, not `/ab`.
    #[default]
    PathPrefix,
    /// It matches a regular expression.
    RegularExpression,
    /// Something Weft does not know.
    #[serde(untagged)]
    Other(String),
}

/// One thing that is done to a request or its answer. The field that the type names is there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteFilter {
    /// Which.
    #[serde(rename = "type")]
    pub type_: HttpFilterType,
    /// For `RequestHeaderModifier`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_header_modifier: Option<HeaderModifier>,
    /// For `ResponseHeaderModifier`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_header_modifier: Option<HeaderModifier>,
    /// For `RequestRedirect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_redirect: Option<RequestRedirect>,
    /// For `URLRewrite`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_rewrite: Option<UrlRewrite>,
    /// For `RequestMirror`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_mirror: Option<RequestMirror>,
    /// For `CORS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What a filter does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum HttpFilterType {
    /// Changes the request's headers.
    #[default]
    RequestHeaderModifier,
    /// Changes the answer's headers.
    ResponseHeaderModifier,
    /// Answers with another address.
    RequestRedirect,
    /// Changes host or path.
    #[serde(rename = "URLRewrite")]
    UrlRewrite,
    /// Sends a copy elsewhere.
    RequestMirror,
    /// Lets pages of other origins in.
    #[serde(rename = "CORS")]
    Cors,
    /// Something Weft does not know.
    #[serde(untagged)]
    Other(String),
}

/// Answers with another address.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestRedirect {
    /// Scheme; none keeps the request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// Host; none keeps the request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Path; none keeps the request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathModifier>,
    /// Port; none means the scheme's own, else the listener's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Status; none means 302.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What pages of other origins may do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cors {
    /// Origins, `*` for all or for a part of the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_origins: Vec<String>,
    /// Whether requests may carry cookies and the like; none means no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_credentials: Option<bool>,
    /// Methods, `*` for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_methods: Vec<String>,
    /// Headers of requests, `*` for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_headers: Vec<String>,
    /// Headers of answers that a page may read, `*` for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expose_headers: Vec<String>,
    /// Seconds for which a browser may keep what a preflight said; none means 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u32>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Changes host or path of a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UrlRewrite {
    /// Host; none keeps the request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Path; none keeps the request's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathModifier>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A change of path. The field that the type names is there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PathModifier {
    /// Which.
    #[serde(rename = "type")]
    pub type_: PathModifierType,
    /// For `ReplaceFullPath`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace_full_path: Option<String>,
    /// For `ReplacePrefixMatch`: instead of what the rule's prefix matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace_prefix_match: Option<String>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// How a path changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PathModifierType {
    /// The whole path.
    #[default]
    ReplaceFullPath,
    /// What the rule's prefix matched.
    ReplacePrefixMatch,
    /// Something Weft does not know.
    #[serde(untagged)]
    Other(String),
}

/// How long requests may take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteTimeouts {
    /// A whole request, retries included; `0s` means no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Duration>,
    /// One attempt at a backend; `0s` means no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<Duration>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

fn root() -> String {
    "/".to_owned()
}

impl HttpRoute {
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

fn note_rule(unknown: &mut Unknown, path: &str, rule: &HttpRouteRule) {
    unknown.note(path, &rule.extra);
    for (index, matched) in rule.matches.iter().enumerate() {
        let path = format!("{path}.matches[{index}]");
        unknown.note(&path, &matched.extra);
        if let Some(path_match) = &matched.path {
            unknown.note(&format!("{path}.path"), &path_match.extra);
        }
        note_values(unknown, &format!("{path}.headers"), &matched.headers);
        note_values(unknown, &format!("{path}.queryParams"), &matched.query_params);
    }
    note_filters(unknown, path, &rule.filters);
    note_backends(unknown, path, &rule.backend_refs, note_filters);
    if let Some(timeouts) = &rule.timeouts {
        unknown.note(&format!("{path}.timeouts"), &timeouts.extra);
    }
}

fn note_filters(unknown: &mut Unknown, path: &str, filters: &[HttpRouteFilter]) {
    for (index, filter) in filters.iter().enumerate() {
        let path = format!("{path}.filters[{index}]");
        unknown.note(&path, &filter.extra);
        let modifiers = (&filter.request_header_modifier, &filter.response_header_modifier);
        note_modifiers(unknown, &path, modifiers);
        note_mirror(unknown, &format!("{path}.requestMirror"), filter.request_mirror.as_ref());
        if let Some(redirect) = &filter.request_redirect {
            unknown.note(&format!("{path}.requestRedirect"), &redirect.extra);
            note_path(unknown, &format!("{path}.requestRedirect.path"), redirect.path.as_ref());
        }
        if let Some(cors) = &filter.cors {
            unknown.note(&format!("{path}.cors"), &cors.extra);
        }
        if let Some(rewrite) = &filter.url_rewrite {
            unknown.note(&format!("{path}.urlRewrite"), &rewrite.extra);
            note_path(unknown, &format!("{path}.urlRewrite.path"), rewrite.path.as_ref());
        }
    }
}

fn note_path(unknown: &mut Unknown, path: &str, modifier: Option<&PathModifier>) {
    if let Some(modifier) = modifier {
        unknown.note(path, &modifier.extra);
    }
}
