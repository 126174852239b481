//! `ReferenceGrant` of the Gateway API: lets objects of other namespaces point to objects of its own.
//!
//! Read at `v1beta1`, which every release of the Gateway API serves; manifests may also say `v1`.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gateway_meta::{Extra, Unknown};

/// Who may point to what of this namespace.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1beta1",
    kind = "ReferenceGrant",
    plural = "referencegrants",
    namespaced,
    derive = "PartialEq",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub struct ReferenceGrantSpec {
    /// Who may; any of these.
    #[serde(default)]
    pub from: Vec<GrantFrom>,
    /// To what; any of these.
    #[serde(default)]
    pub to: Vec<GrantTo>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Who may point here.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantFrom {
    /// API group of the referrer.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What may be pointed to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrantTo {
    /// API group, `""` for the core's.
    #[serde(default)]
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name; none means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

impl ReferenceGrantSpec {
    /// Whether an object of that group, kind and namespace may point to that object here.
    pub fn allows(&self, from: (&str, &str, &str), to: (&str, &str, &str)) -> bool {
        let may =
            |grant: &GrantFrom| (grant.group.as_str(), grant.kind.as_str(), grant.namespace.as_str()) == from;
        let meant = |grant: &GrantTo| {
            (grant.group.as_str(), grant.kind.as_str()) == (to.0, to.1)
                && grant.name.as_deref().is_none_or(|name| name == to.2)
        };
        self.from.iter().any(may) && self.to.iter().any(meant)
    }
}

impl ReferenceGrant {
    /// Paths of fields that Weft does not know.
    pub fn unknown_fields(&self) -> Vec<String> {
        let mut unknown = Unknown::default();
        unknown.note("spec", &self.spec.extra);
        for (index, from) in self.spec.from.iter().enumerate() {
            unknown.note(&format!("spec.from[{index}]"), &from.extra);
        }
        for (index, to) in self.spec.to.iter().enumerate() {
            unknown.note(&format!("spec.to[{index}]"), &to.extra);
        }
        unknown.into_paths()
    }
}
