//! The rivals, each with its tuned configuration (in this folder) on the same two hops as Weft: plain from the load, mutual
//! TLS 1.3 between the hops, plain to the origin, keep-alive everywhere, no access log, as many workers.

mod envoy;
mod haproxy;
mod nginx;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use tokio::process::{Child, Command};

pub(crate) use envoy::envoy;
pub(crate) use haproxy::{Between, haproxy};
pub(crate) use nginx::{nginx, origin};

/// Worker threads or processes of every proxy.
pub(crate) const WORKERS: usize = 2;
/// Name in the certificate of the hop beside the origin.
pub(crate) const SERVER_NAME: &str = "server.mesh";
/// Name in the certificate of the hop that the load talks to.
pub(crate) const CLIENT_NAME: &str = "client.mesh";

/// Where the origins listen.
#[derive(Clone, Copy)]
pub(crate) struct Origins {
    pub(crate) http1: SocketAddr,
    pub(crate) http2: SocketAddr,
    pub(crate) websocket: SocketAddr,
}

/// Where the hops of one rival listen.
#[derive(Clone, Copy)]
pub(crate) struct Hops {
    pub(crate) client_http1: SocketAddr,
    pub(crate) client_http2: SocketAddr,
    pub(crate) client_tls: SocketAddr,
    pub(crate) client_websocket: SocketAddr,
    pub(crate) server_http1: SocketAddr,
    pub(crate) server_http2: SocketAddr,
    pub(crate) server_websocket: SocketAddr,
}

impl Hops {
    /// On ports of loopback that are free now.
    pub(crate) fn free() -> Result<Self> {
        let [
            client_http1,
            client_http2,
            client_tls,
            client_websocket,
            server_http1,
            server_http2,
            server_websocket,
        ] = crate::paths::free_ports()?;
        Ok(Self {
            client_http1,
            client_http2,
            client_tls,
            client_websocket,
            server_http1,
            server_http2,
            server_websocket,
        })
    }
}

/// A configuration with its places filled in.
struct Template(String);

impl Template {
    fn new(text: &str, dir: &Path) -> Self {
        Self(text.to_owned()).set("WORKERS", WORKERS).set("DIR", dir.display())
    }

    fn set(self, place: &str, value: impl std::fmt::Display) -> Self {
        Self(self.0.replace(&format!("@{place}@"), &value.to_string()))
    }

    fn addresses(self, hops: &Hops, origins: &Origins) -> Self {
        self.set("CLIENT_HTTP1", hops.client_http1)
            .set("CLIENT_HTTP2", hops.client_http2)
            .set("CLIENT_TLS", hops.client_tls)
            .set("CLIENT_WEBSOCKET", hops.client_websocket)
            .set("SERVER_HTTP1", hops.server_http1)
            .set("SERVER_HTTP2", hops.server_http2)
            .set("SERVER_WEBSOCKET", hops.server_websocket)
            .set("ORIGIN", origins.http1)
            .set("ORIGIN_HTTP2", origins.http2)
            .set("ORIGIN_WEBSOCKET", origins.websocket)
    }

    /// Writes it to a file of the bench's folder.
    fn write(self, dir: &Path, name: &str) -> Result<PathBuf> {
        let file = dir.join(name);
        std::fs::write(&file, self.0)?;
        Ok(file)
    }
}

/// Starts a program with its output in a file of the bench's folder.
pub(crate) fn start(dir: &Path, name: &str, command: &mut Command) -> Result<Child> {
    let log = || std::fs::File::create(dir.join(format!("{name}.log")));
    command
        .stdin(Stdio::null())
        .stdout(log()?)
        .stderr(log()?)
        .spawn()
        .with_context(|| format!("starting {name}"))
}
