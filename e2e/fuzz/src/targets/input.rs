//! What the targets share: a request and its headers from the lines of the input.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;
use weft_sidecar::cx::{ConnCx, RequestCx};
use weft_sidecar::policy::path::NormalPath;

/// A GET from a client without identity.
pub fn request(host: &str, path: NormalPath) -> RequestCx {
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000));
    let conn = Arc::new(ConnCx { peer, identity: None, port: 80, tls: false });
    RequestCx { id: "fuzz".into(), host: host.into(), ..RequestCx::new(conn, path, Instant::now()) }
}

/// `name: value` per line; lines that are no header are left out.
pub fn headers(data: &[u8]) -> HeaderMap {
    let pairs = data.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..colon]).ok()?;
        Some((name, HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?))
    });
    let mut headers = HeaderMap::new();
    for (name, value) in pairs.take(64) {
        headers.append(name, value);
    }
    headers
}
