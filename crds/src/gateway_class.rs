//! `GatewayClass` of the Gateway API: says which controller a Gateway belongs to.
//!
//! Weft acts on classes whose controller is [`CONTROLLER`]; standalone the class `weft` is always there.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::gateway_meta::Extra;

/// The controller name of Weft.
pub const CONTROLLER: &str = "weft.dev/gateway-controller";
/// The class that Weft brings.
pub const CLASS: &str = "weft";

/// Which controller a Gateway belongs to.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "GatewayClass",
    plural = "gatewayclasses",
    status = "GatewayClassStatus",
    derive = "PartialEq",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub struct GatewayClassSpec {
    /// The controller.
    pub controller_name: String,
    /// Fields that Weft does not know.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What the operator reports of a class.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayClassStatus {
    /// `Accepted`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Other fields, kept as they are.
    #[serde(flatten)]
    pub extra: Extra,
}
