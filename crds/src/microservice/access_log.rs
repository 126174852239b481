//! What the access log holds, for one service or the whole mesh.
//!
//! Read by the sidecar after each request; the log's format is the sidecar's business.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which requests get a line in the access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::without_description)]
pub enum AccessLog {
    /// No request. (Written `None`, since YAML 1.1, and so kubectl, reads a bare `Off` as `false`.)
    #[serde(rename = "None")]
    Off,
    /// Requests that failed or were refused.
    #[default]
    Errors,
    /// Every request.
    All,
}
