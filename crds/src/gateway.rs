//! `Gateway` of the Gateway API: listeners that take traffic from outside.
//!
//! Tolerant: fields that Weft does not act on are kept in `extra` and reported in the status.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gateway_meta::{Extra, ObjectReference, Unknown};

/// Listeners that take traffic from outside.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "Gateway",
    plural = "gateways",
    namespaced,
    status = "GatewayStatus",
    derive = "PartialEq",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpec {
    /// Class that says whose Gateway it is.
    pub gateway_class_name: String,
    /// What it listens on.
    #[serde(default)]
    pub listeners: Vec<Listener>,
    /// Labels and annotations for what is made of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub infrastructure: Option<Infrastructure>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// One thing that a Gateway listens on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// Name, unique in the Gateway.
    pub name: String,
    /// Host that it serves, `*.` in front for every subdomain; none means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Port.
    pub port: u16,
    /// What is spoken.
    pub protocol: ListenerProtocol,
    /// How TLS ends here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ListenerTls>,
    /// Routes that may attach; none means those of the same namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_routes: Option<AllowedRoutes>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What is spoken on a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ListenerProtocol {
    /// Plain HTTP.
    #[default]
    #[serde(rename = "HTTP")]
    Http,
    /// HTTP over TLS that ends here.
    #[serde(rename = "HTTPS")]
    Https,
    /// TLS.
    #[serde(rename = "TLS")]
    Tls,
    /// TCP.
    #[serde(rename = "TCP")]
    Tcp,
    /// Something Weft does not know.
    #[serde(untagged)]
    Other(String),
}

/// How TLS ends at a listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerTls {
    /// Whether it ends here.
    #[serde(default)]
    pub mode: TlsMode,
    /// Secrets with certificate and key (`tls.crt`, `tls.key`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificate_refs: Vec<ObjectReference>,
    /// Options of implementations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Whether TLS ends at a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsMode {
    /// It ends here.
    #[default]
    Terminate,
    /// It goes through.
    Passthrough,
    /// Something Weft does not know.
    #[serde(untagged)]
    Other(String),
}

/// Routes that may attach to a listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllowedRoutes {
    /// Namespaces they may be in; none means the Gateway's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<RouteNamespaces>,
    /// Kinds they may be; none means those that fit the protocol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<RouteKind>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Namespaces that routes may be in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteNamespaces {
    /// Which.
    #[serde(default)]
    pub from: FromNamespaces,
    /// Labels of namespaces, for `Selector`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Which namespaces routes may be in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FromNamespaces {
    /// All.
    All,
    /// The Gateway's own.
    #[default]
    Same,
    /// Those with certain labels.
    Selector,
    /// None.
    None,
    /// Something Weft does not know.
    #[serde(untagged)]
    Other(String),
}

/// A kind of route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteKind {
    /// API group; none means the Gateway API's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Kind.
    pub kind: String,
}

/// Labels and annotations for what is made of a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Infrastructure {
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What the operator reports of a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayStatus {
    /// Addresses it is reached under.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<GatewayAddress>,
    /// `Accepted`, `Programmed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// One report for each listener.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<ListenerStatus>,
}

/// An address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayAddress {
    /// `IPAddress` or `Hostname`; none means `IPAddress`.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// The address.
    pub value: String,
}

/// What the operator reports of a listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// Name of the listener.
    pub name: String,
    /// Kinds of routes it takes.
    #[serde(default)]
    pub supported_kinds: Vec<RouteKind>,
    /// Routes attached.
    #[serde(default)]
    pub attached_routes: i32,
    /// `Accepted`, `Programmed`, `ResolvedRefs`, `Conflicted`.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

impl Gateway {
    /// Paths of fields that Weft does not know.
    pub fn unknown_fields(&self) -> Vec<String> {
        let mut unknown = Unknown::default();
        unknown.note("spec", &self.spec.extra);
        for (index, listener) in self.spec.listeners.iter().enumerate() {
            note_listener(&mut unknown, &format!("spec.listeners[{index}]"), listener);
        }
        if let Some(infrastructure) = &self.spec.infrastructure {
            unknown.note("spec.infrastructure", &infrastructure.extra);
        }
        unknown.into_paths()
    }
}

fn note_listener(unknown: &mut Unknown, path: &str, listener: &Listener) {
    unknown.note(path, &listener.extra);
    if let Some(tls) = &listener.tls {
        unknown.note(&format!("{path}.tls"), &tls.extra);
        for (index, reference) in tls.certificate_refs.iter().enumerate() {
            unknown.note(&format!("{path}.tls.certificateRefs[{index}]"), &reference.extra);
        }
    }
    if let Some(allowed) = &listener.allowed_routes {
        unknown.note(&format!("{path}.allowedRoutes"), &allowed.extra);
        if let Some(namespaces) = &allowed.namespaces {
            unknown.note(&format!("{path}.allowedRoutes.namespaces"), &namespaces.extra);
        }
    }
}
