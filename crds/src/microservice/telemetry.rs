//! Traces and access log of one service.
//!
//! Where spans go is said once, in the mesh; metrics are always there and not said at all.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::defaults;
use crate::mesh::MeshSpec;
use crate::microservice::access_log::AccessLog;

/// Traces and access log of one service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Telemetry {
    /// Traces. Default: the mesh's. Example: `{sampling: 1.0}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,

    /// Which requests get a line in the access log: `None`, `Errors` or `All`. Default: the mesh's, else `Errors`.
    /// Example: `All`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLog>,
}

/// Traces of one service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tracing {
    /// Share of requests that start a trace, where they bring none. 0 to 1. Default: the mesh's, else `0.1`.
    /// Example: `1.0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sampling: Option<f64>,
}

/// Telemetry in force.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EffectiveTelemetry {
    /// Share of requests that start a trace.
    pub sampling: f64,
    /// Which requests get a line in the access log.
    pub access_log: AccessLog,
}

impl Telemetry {
    /// What is in force for a service that says `own` in that mesh.
    pub fn effective(own: Option<&Self>, mesh: &MeshSpec) -> EffectiveTelemetry {
        let own_sampling = own.and_then(|own| own.tracing.as_ref()).and_then(|tracing| tracing.sampling);
        let mesh_sampling = mesh.tracing.as_ref().and_then(|tracing| tracing.sampling);
        let access_log = own.and_then(|own| own.access_log).or(mesh.access_log);
        EffectiveTelemetry {
            sampling: own_sampling.or(mesh_sampling).unwrap_or(defaults::TRACE_SAMPLING),
            access_log: access_log.unwrap_or(defaults::ACCESS_LOG),
        }
    }
}
