//! The ports of a service and what they speak.
//!
//! A declared protocol spares the sidecar detection, and a server-first protocol its delay.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One port of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    /// Name, unique in the service. 1 to 15 lower-case letters, digits and dashes, with a letter first and no dash last.
    /// Example: `http`.
    #[schemars(length(min = 1, max = 15), regex(pattern = "^[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// Number under which callers reach it, unique in the service. 1 to 65535. Example: `80`.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,

    /// Number that the process listens on. 1 to 65535. Default: the same as `port`. Example: `8080`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub target_port: Option<u16>,

    /// What is spoken on it: `HTTP` (HTTP/1.1 and upgrades), `HTTP2`, `GRPC` or `TCP`.
    /// Default: the `appProtocol` of the Service's port, else detected from the first bytes. Example: `GRPC`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
}

impl Port {
    /// The port that the process listens on.
    pub fn target(&self) -> u16 {
        self.target_port.unwrap_or(self.port)
    }
}

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::without_description)]
pub enum Protocol {
    /// HTTP/1.1, with upgrades such as WebSocket.
    #[serde(rename = "HTTP")]
    Http,
    /// HTTP/2 with prior knowledge.
    #[serde(rename = "HTTP2")]
    Http2,
    /// gRPC over HTTP/2.
    #[serde(rename = "GRPC")]
    Grpc,
    /// Bytes that the mesh does not look into.
    #[serde(rename = "TCP")]
    Tcp,
}

impl Protocol {
    /// What the `appProtocol` of a Service's port means, where it means one of ours.
    pub fn from_app_protocol(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        match text.as_str() {
            "http" | "http1" | "kubernetes.io/ws" | "ws" => Some(Self::Http),
            "http2" | "h2c" | "kubernetes.io/h2c" => Some(Self::Http2),
            "grpc" => Some(Self::Grpc),
            "tcp" | "tls" | "https" | "kubernetes.io/wss" | "wss" => Some(Self::Tcp),
            _ => None,
        }
    }

    /// Whether requests are seen one by one.
    pub fn is_http(self) -> bool {
        self != Self::Tcp
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "HTTP",
            Self::Http2 => "HTTP2",
            Self::Grpc => "GRPC",
            Self::Tcp => "TCP",
        })
    }
}
