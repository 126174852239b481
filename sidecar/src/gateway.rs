//! At the edge: listeners of a Gateway, plain or TLS, whose requests and connections come from outside the mesh. Several
//! listeners may share an address and differ in their host name: TLS chooses by server name, HTTP by authority. Inwards
//! all goes the outbound path of any sidecar.

mod hello;
pub mod http;
mod through;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;

use crate::config::snapshot::{EdgeTls, GatewayListener, Snapshot};
use crate::cx::ConnCx;
use crate::http::serve::{self, Accepted};
use crate::net::redirect::canonical;
use crate::net::stream::Stream;
use crate::net::worker::Worker;
use crate::policy::pattern::HostPattern;
use crate::telemetry::Direction;
use hello::{OpenError, Opened, open};

/// What metrics call what no route leads anywhere.
const NOWHERE: &str = "unrouted";

/// Serves a connection accepted on the address of this listener.
pub async fn serve(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr, listener: &str) {
    let config = worker.shared.config.load_full();
    let Some(address) = address_of(&config, &stream, listener) else { return };
    let secure = at(&config, address).any(|listener| !matches!(listener.tls, EdgeTls::Plain));
    let limit = worker.shared.settings.client_header_timeout;
    let opened = if secure {
        // What a handshake needs is large, and is not to be kept as long as the connection.
        let opening = Box::pin(open(&config, address, stream, limit));
        worker.handshakes.run(opening).await.unwrap_or(Err(OpenError::TooMany))
    } else {
        plain(stream, limit).await
    };
    drop(config);
    let conn = Arc::new(ConnCx { peer, identity: None, port: address.port(), tls: secure });
    match opened {
        Ok(Opened::Http(stream, speaks)) => {
            let handler = |request| http::handle(Rc::clone(worker), Arc::clone(&conn), address, request);
            let accepted = Accepted { direction: Direction::Gateway, conn: Arc::clone(&conn) };
            serve::serve(worker, accepted, stream, speaks, handler).await;
        }
        Ok(Opened::Through(through)) => through::handle(worker, &conn, *through).await,
        Err(error) => {
            let failure = error.failure();
            worker.shared.telemetry.metrics.handshake_failed(Direction::Gateway, failure);
            let cause = crate::operator::causes(&error);
            debug!(error = cause, reason = failure.label(), %peer, "connection from outside refused");
        }
    }
}

/// The address of the listeners that this connection came to: its own where one of them is bound to it, else that of the
/// listener through which it came, whose port the system chose.
fn address_of(config: &Snapshot, stream: &TcpStream, name: &str) -> Option<SocketAddr> {
    let listeners = || config.gateway.iter().flat_map(|gateway| &gateway.listeners);
    let local = stream.local_addr().ok().map(canonical);
    let is_local = |listen: SocketAddr| {
        local.is_some_and(|local| {
            local.port() == listen.port() && (listen.ip().is_unspecified() || local.ip() == listen.ip())
        })
    };
    let here = listeners().find(|listener| is_local(listener.listen));
    let named = || listeners().find(|listener| &*listener.name == name);
    here.or_else(named).map(|listener| listener.listen)
}

/// The listeners that share this address.
fn at(config: &Snapshot, address: SocketAddr) -> impl Iterator<Item = &Arc<GatewayListener>> {
    let listeners = config.gateway.iter().flat_map(|gateway| &gateway.listeners);
    listeners.filter(move |listener| listener.listen == address)
}

/// The listener for this host: the one that names it most narrowly, else one for all hosts.
fn for_host<'c>(config: &'c Snapshot, address: SocketAddr, host: &str) -> Option<&'c Arc<GatewayListener>> {
    let fits = |l: &&Arc<GatewayListener>| l.hostname.as_ref().is_none_or(|name| name.matches(host));
    at(config, address).filter(fits).max_by_key(|l| l.hostname.as_ref().map(HostPattern::rank))
}

async fn plain(stream: TcpStream, limit: std::time::Duration) -> Result<Opened, OpenError> {
    let speaks = timeout(limit, serve::sniff(&stream)).await.map_err(|_| OpenError::Timeout)?;
    Ok(Opened::Http(Stream::Plain(stream), speaks.map_err(OpenError::Handshake)?))
}
