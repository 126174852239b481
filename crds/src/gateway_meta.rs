//! What the kinds of the Gateway API share: references, header matches, filters, statuses, unknown fields.
//!
//! Fields that Weft acts on are typed. Everything else lands in an [`Extra`] map and is reported in the object's
//! status, never refused; a value of an enum that Weft does not know becomes `Other`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::GATEWAY_GROUP;

/// Fields that Weft does not know, by name.
pub type Extra = BTreeMap<String, Value>;

/// Collects the paths of unknown fields of one object.
#[derive(Debug, Default)]
pub struct Unknown {
    paths: Vec<String>,
}

impl Unknown {
    /// Notes every field of `extra`, which stands at `path`.
    pub fn note(&mut self, path: &str, extra: &Extra) {
        self.paths.extend(extra.keys().map(|field| format!("{path}.{field}")));
    }

    /// The paths, in the order of the object.
    pub fn into_paths(self) -> Vec<String> {
        self.paths
    }
}

/// What a route attaches to: a Gateway for traffic from outside, a Service for traffic within the mesh.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParentReference {
    /// API group; none means the Gateway API's, `""` the core's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Kind; none means Gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Namespace; none means the route's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
    /// Listener of a Gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
    /// Port of the listener or Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

impl ParentReference {
    /// Whether it means a Gateway.
    pub fn is_gateway(&self) -> bool {
        let group = self.group.as_deref().unwrap_or(GATEWAY_GROUP);
        group == GATEWAY_GROUP && self.kind.as_deref().unwrap_or("Gateway") == "Gateway"
    }

    /// Whether it means a Service, which is a route within the mesh.
    pub fn is_service(&self) -> bool {
        self.group.as_deref() == Some("") && self.kind.as_deref() == Some("Service")
    }

    /// Its namespace, seen from a route in `own`.
    pub fn namespace_or<'a>(&'a self, own: &'a str) -> &'a str {
        self.namespace.as_deref().unwrap_or(own)
    }
}

/// What a backend or certificate reference points to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    /// API group; none means the core's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Kind; none means Service for a backend, Secret for a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Name.
    pub name: String,
    /// Namespace; none means the referrer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Port of a Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

impl ObjectReference {
    /// Whether it means that kind of the core group, `default` being what a missing kind means.
    pub fn is_core(&self, kind: &str, default: &str) -> bool {
        self.group.as_deref().unwrap_or_default().is_empty()
            && self.kind.as_deref().unwrap_or(default) == kind
    }

    /// Its namespace, seen from an object in `own`.
    pub fn namespace_or<'a>(&'a self, own: &'a str) -> &'a str {
        self.namespace.as_deref().unwrap_or(own)
    }
}

/// How a header or query parameter is compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ValueMatchType {
    /// It is equal.
    #[default]
    Exact,
    /// It matches a regular expression.
    RegularExpression,
    /// Something Weft does not know.
    #[serde(untagged)]
    Other(String),
}

/// A header, metadata entry or query parameter that must have a value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValueMatch {
    /// How it is compared.
    #[serde(rename = "type", default)]
    pub type_: ValueMatchType,
    /// Name; of a header without regard to case.
    pub name: String,
    /// Value or regular expression.
    pub value: String,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A header with its value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderValue {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Changes to the headers of a request or an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderModifier {
    /// Headers that replace those of the same name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<HeaderValue>,
    /// Headers that join those of the same name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<HeaderValue>,
    /// Names of headers that go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Sends a copy of requests elsewhere and drops the answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestMirror {
    /// Where copies go.
    pub backend_ref: ObjectReference,
    /// Share of requests in percent; none means all, unless `fraction` says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// Share of requests as a fraction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fraction: Option<Fraction>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fraction {
    /// Above the line.
    pub numerator: u32,
    /// Below the line; none means 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denominator: Option<u32>,
}

/// Where requests or calls go, and by which share. The reference's own unknown fields are in its `extra`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WeightedBackend<F> {
    /// Share among the rule's backends; 0 means none.
    #[serde(default = "one")]
    pub weight: u32,
    /// What is done only to what goes here: filters as the route's kind has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<F>,
    /// The Service.
    #[serde(flatten)]
    pub reference: ObjectReference,
}

/// The weight of a backend that says none.
pub(crate) fn one() -> u32 {
    1
}

/// What controllers report of a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// One report for each parent and controller.
    #[serde(default)]
    pub parents: Vec<RouteParentStatus>,
}

/// What one controller reports of a route at one parent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteParentStatus {
    /// The parent, as the route wrote it.
    pub parent_ref: ParentReference,
    /// The controller that reports.
    pub controller_name: String,
    /// `Accepted`, `ResolvedRefs`, `PartiallyInvalid`.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// The changes that a filter makes to the headers of a request and of its answer.
pub(crate) fn note_modifiers(
    unknown: &mut Unknown,
    path: &str,
    (request, response): (&Option<HeaderModifier>, &Option<HeaderModifier>),
) {
    for (field, modifier) in [("requestHeaderModifier", request), ("responseHeaderModifier", response)] {
        let Some(modifier) = modifier else { continue };
        let path = format!("{path}.{field}");
        unknown.note(&path, &modifier.extra);
        for (list, headers) in [("set", &modifier.set), ("add", &modifier.add)] {
            for (index, header) in headers.iter().enumerate() {
                unknown.note(&format!("{path}.{list}[{index}]"), &header.extra);
            }
        }
    }
}

/// The backends of the rule at `path`, and by `note_filters` what is done to what goes to each.
pub(crate) fn note_backends<F>(
    unknown: &mut Unknown,
    path: &str,
    backends: &[WeightedBackend<F>],
    note_filters: impl Fn(&mut Unknown, &str, &[F]),
) {
    for (index, backend) in backends.iter().enumerate() {
        let path = format!("{path}.backendRefs[{index}]");
        unknown.note(&path, &backend.reference.extra);
        note_filters(unknown, &path, &backend.filters);
    }
}

pub(crate) fn note_mirror(unknown: &mut Unknown, path: &str, mirror: Option<&RequestMirror>) {
    let Some(mirror) = mirror else { return };
    unknown.note(path, &mirror.extra);
    unknown.note(&format!("{path}.backendRef"), &mirror.backend_ref.extra);
}

pub(crate) fn note_values(unknown: &mut Unknown, path: &str, values: &[ValueMatch]) {
    for (index, value) in values.iter().enumerate() {
        unknown.note(&format!("{path}[{index}]"), &value.extra);
    }
}

pub(crate) fn note_parents(unknown: &mut Unknown, parents: &[ParentReference]) {
    for (index, parent) in parents.iter().enumerate() {
        unknown.note(&format!("spec.parentRefs[{index}]"), &parent.extra);
    }
}
