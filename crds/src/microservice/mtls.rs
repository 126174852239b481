//! Mutual TLS on the way into a service.
//!
//! Certificates and identities are the operator's and sidecar's business; here is only the mode.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::defaults;

/// Mutual TLS on the way in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mtls {
    /// `Strict` refuses callers without a certificate of the mesh, `Permissive` also takes plain text,
    /// `Disabled` takes only plain text. Default: the mesh's mode, else `Strict`. Example: `Permissive`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<MtlsMode>,
}

/// Whether callers must prove who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::without_description)]
pub enum MtlsMode {
    /// Only callers with a certificate of the mesh.
    #[default]
    Strict,
    /// Callers with and without one; for the time of moving into the mesh.
    Permissive,
    /// Plain text only.
    Disabled,
}

impl Mtls {
    /// The mode in force: the service's, else the mesh's, else the default.
    pub fn effective(own: Option<&Self>, mesh: Option<&Self>) -> MtlsMode {
        own.and_then(|mtls| mtls.mode).or(mesh.and_then(|mtls| mtls.mode)).unwrap_or(defaults::MTLS_MODE)
    }
}
