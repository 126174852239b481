//! What to run for a service: the part of a Pod that people care about.
//!
//! Types of Kubernetes are used where it has them, so that a block can be copied from a Deployment. Standalone,
//! only `replicas` and `health` count; the command and its environment are in `weft.yaml`.

use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, LocalObjectReference, ResourceRequirements, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantity;
use crate::{defaults, rules};

/// What to run, as in a Pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::cel(rules::WORKLOAD)))]
pub struct Workload {
    /// Image of the container. 1 to 512 characters. Example: `weft-shop/order:0.1.0`.
    #[schemars(length(min = 1, max = 512))]
    pub image: String,

    /// When to pull the image: `Always`, `IfNotPresent` or `Never`. Default: `Always` for the tag `latest`, else
    /// `IfNotPresent`. Example: `IfNotPresent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,

    /// Secrets for private registries. Default: none. At most 16. Example: `[{name: registry}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<LocalObjectReference>,

    /// Command instead of the image's own. Default: the image's. At most 64 words. Example: `[/bin/order]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub command: Vec<String>,

    /// Arguments of the command. Default: the image's. At most 256. Example: `[--verbose]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub args: Vec<String>,

    /// Number of instances. 0 to 1000. Default: 1. Not together with `autoscaling`. Example: `2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: Option<u32>,

    /// Number of instances by load, kept by a `HorizontalPodAutoscaler`. Default: none. Not together with `replicas`.
    /// Example: `{min: 2, max: 10, cpuPercent: 70}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,

    /// Environment variables, as in a Pod. Default: none. At most 256. Example: `[{name: LOG, value: info}]`.
    #[serde(default, deserialize_with = "quantity::as_text", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub env: Vec<EnvVar>,

    /// `ConfigMaps` and Secrets whose keys become environment variables, as in a Pod. Default: none. At most 32.
    /// Example: `[{secretRef: {name: order-database}}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub env_from: Vec<EnvFromSource>,

    /// CPU and memory, as in a Pod. Default: none. Example: `{requests: {cpu: 100m, memory: 64Mi}}`.
    #[serde(default, deserialize_with = "quantity::as_text", skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,

    /// Volumes, as in a Pod. Default: none. At most 64. Example: `[{name: scratch, emptyDir: {}}]`.
    #[serde(default, deserialize_with = "quantity::as_text", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub volumes: Vec<Volume>,

    /// Where volumes appear in the container, as in a Pod. Default: none. At most 64.
    /// Example: `[{name: scratch, mountPath: /tmp}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub volume_mounts: Vec<VolumeMount>,

    /// `ServiceAccount`, which is also the service's identity in the mesh. 1 to 253 characters. Default: one named
    /// like the resource, made by the operator. Example: `order`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub service_account_name: Option<String>,

    /// Rights of the container, as in a Pod's container. Default: not root, no privilege escalation, all
    /// capabilities dropped. Example: `{readOnlyRootFilesystem: true}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_context: Option<SecurityContext>,

    /// How to tell that an instance is healthy. Default: `{path: /health}` on the first HTTP port.
    /// Example: `{path: /health, port: http}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,

    /// How many instances must stay while nodes are drained, kept by a `PodDisruptionBudget`. Default: none.
    /// Example: `{minAvailable: 1}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disruption: Option<Disruption>,
}

impl Workload {
    /// The number of instances to start with: `replicas`, else the least of `autoscaling`, else 1.
    pub fn initial_replicas(&self) -> u32 {
        let scaled = self.autoscaling.as_ref().map(|scaling| scaling.min);
        self.replicas.or(scaled).unwrap_or(defaults::REPLICAS)
    }
}

/// When to pull an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::without_description)]
pub enum ImagePullPolicy {
    /// At every start.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Never; the node must have it.
    Never,
}

/// Bounds and aim of a `HorizontalPodAutoscaler`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::cel(rules::AUTOSCALING)))]
pub struct Autoscaling {
    /// Least instances. 1 to 1000, at most `max`. Default: 1. Example: `2`.
    #[serde(default = "defaults::autoscaling_min")]
    #[schemars(range(min = 1, max = 1000))]
    pub min: u32,

    /// Most instances. 1 to 1000. Example: `10`.
    #[schemars(range(min = 1, max = 1000))]
    pub max: u32,

    /// CPU use to aim at, in percent of what the instances requested. 1 to 1000. Default: 70. Example: `70`.
    #[serde(default = "defaults::autoscaling_cpu_percent")]
    #[schemars(range(min = 1, max = 1000))]
    pub cpu_percent: u32,
}

/// Where an instance says that it is healthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Health {
    /// Path that answers 200 while the instance is healthy. 1 to 1024 characters from `/`. Default: `/health`.
    /// Example: `/health`.
    #[serde(default = "defaults::health_path")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/[^\s#]*$"))]
    pub path: String,

    /// Name of the port to ask on; must be one of `ports`. Default: the first HTTP port. Example: `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 15))]
    pub port: Option<String>,
}

impl Default for Health {
    fn default() -> Self {
        Self { path: defaults::health_path(), port: None }
    }
}

/// What a `PodDisruptionBudget` keeps. Exactly one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::cel(rules::DISRUPTION)))]
pub struct Disruption {
    /// Instances, or percent of them, that must stay. Default: none. Example: `1` or `50%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_available: Option<IntOrString>,

    /// Instances, or percent of them, that may be missing. Default: none. Example: `1` or `25%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<IntOrString>,
}
