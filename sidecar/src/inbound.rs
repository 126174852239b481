//! From a peer to the application: opens an accepted connection, finds out who it is and what is inside, and hands it
//! to the path for that. Leaves out what happens to a request (`inbound/http.rs`) or raw connection (`inbound/tcp.rs`).

pub mod app;
pub mod checks;
pub mod http;
pub mod tcp;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;
use tracing::{debug, info};
use weft_api::spiffe::SpiffeId;
use weft_api::v1::{MtlsMode, Protocol};

use crate::config::snapshot::{InboundConfig, InboundPort};
use crate::cx::ConnCx;
use crate::http::carried;
use crate::http::serve::{self, Accepted, Http};
use crate::net::redirect::original_destination;
use crate::net::stream::Stream;
use crate::net::worker::Worker;
use crate::policy::limits::Slot;
use crate::reject::Reason;
use crate::telemetry::Direction;
use crate::telemetry::metrics::{PeerMetrics, TlsFailure};
use crate::tls::accept::{AcceptError, Inside, Opened, open};

/// An accepted connection from a peer.
#[derive(Debug)]
pub struct Peer {
    /// Who it is and where it came in.
    pub conn: Arc<ConnCx>,
    /// The port it wants.
    pub port: Arc<InboundPort>,
    /// Counters of the service it belongs to.
    pub metrics: Arc<PeerMetrics>,
    /// Whether it may not pass, since it must be mutual TLS and is not.
    pub refused: bool,
    _slot: Slot,
}

/// Serves a connection accepted on the listener of this port.
pub async fn serve(worker: &Rc<Worker>, stream: TcpStream, address: SocketAddr, port: &str) {
    let config = worker.shared.config.load_full();
    if let Some(inbound) = &config.inbound
        && let Some(port) = inbound.port(port)
    {
        serve_port(worker, stream, address, Arc::clone(port)).await;
    }
}

/// Serves a redirected connection: the port is the one it was sent to.
pub async fn serve_redirected(worker: &Rc<Worker>, stream: TcpStream, address: SocketAddr) {
    let original = match original_destination(&stream) {
        Ok(original) => original,
        Err(_) if address.ip().is_loopback() => return serve_own(worker, stream, address).await,
        Err(error) => return debug!(%error, peer = %address, "connection to the inbound port itself closed"),
    };
    if worker.shared.settings.is_own(original.port()) {
        return debug!(port = original.port(), peer = %address, "connection to a port of the proxy closed");
    }
    let config = worker.shared.config.load_full();
    let Some(inbound) = &config.inbound else { return };
    let port = port_at(inbound, worker.shared.settings.app_address(original));
    serve_port(worker, stream, address, port).await;
}

/// The port of the workload whose application listens there.
fn port_at(inbound: &InboundConfig, app: SocketAddr) -> Arc<InboundPort> {
    match inbound.ports.iter().find(|port| port.app.port() == app.port()) {
        Some(port) if port.app == app => Arc::clone(port),
        Some(port) => {
            let InboundPort { name, protocol, port, .. } = &**port;
            Arc::new(InboundPort {
                name: Arc::clone(name),
                protocol: *protocol,
                listen: None,
                app,
                port: *port,
            })
        }
        // A port the service does not declare: raw bytes, under the same rules of mutual TLS and authorization.
        None => Arc::new(InboundPort {
            name: "undeclared".into(),
            protocol: Protocol::Tcp,
            listen: None,
            app,
            port: app.port(),
        }),
    }
}

/// Serves a connection that this proxy made to itself, because its own workload was chosen as the endpoint of a call: the
/// kernel redirects nothing of ours, so the TLS server name says which port is meant.
async fn serve_own(worker: &Rc<Worker>, stream: TcpStream, address: SocketAddr) {
    let (config, material) = (worker.shared.config.load_full(), worker.shared.identity.load_full());
    let (Some(inbound), Some(material)) = (&config.inbound, material) else { return };
    let limit = worker.shared.settings.client_header_timeout;
    let opening = open(stream, (MtlsMode::Strict, Protocol::Tcp), &material, limit);
    let opened = match worker.handshakes.run(opening).await.unwrap_or(Err(AcceptError::TooMany)) {
        Ok(opened) => opened,
        Err(error) => return refused(worker, address, &error),
    };
    let Opened::Tls { stream, identity, inside } = opened else { return };
    let named = stream.server_name().and_then(|name| name.split('.').next());
    let Some(port) = named.and_then(|name| inbound.port(name)).map(Arc::clone) else { return };
    let Ok(slot) = inbound.limits.connection() else { return };
    let conn = ConnCx { peer: address, identity, port: port.port, tls: true };
    let peer = peer(worker, conn, (port, slot), MtlsMode::Strict);
    drop((config, material));
    serve_peer(worker, stream, Some(inside), peer).await;
}

async fn serve_port(worker: &Rc<Worker>, stream: TcpStream, address: SocketAddr, port: Arc<InboundPort>) {
    let (config, material) = (worker.shared.config.load_full(), worker.shared.identity.load_full());
    let (Some(inbound), Some(material)) = (&config.inbound, material) else { return };
    let metrics = &worker.shared.telemetry.metrics;
    let slot = match inbound.limits.connection() {
        Ok(slot) => slot,
        Err(reject) => return metrics.rejected(Direction::Inbound, reject.reason),
    };
    let limit = worker.shared.settings.client_header_timeout;
    let opening = open(stream, (inbound.mtls, port.protocol), &material, limit);
    let opened = match worker.handshakes.run(opening).await.unwrap_or(Err(AcceptError::TooMany)) {
        Ok(opened) => opened,
        Err(error) => return refused(worker, address, &error),
    };
    let (stream, identity, inside) = match opened {
        Opened::Tls { stream, identity, inside } => (stream, identity, Some(inside)),
        Opened::Plain(stream) => (Stream::Plain(stream), None, None),
    };
    let conn = ConnCx { peer: address, identity, port: port.port, tls: inside.is_some() };
    let peer = peer(worker, conn, (port, slot), inbound.mtls);
    // What is in use now must not be kept alive by a connection that lasts.
    drop((config, material));
    serve_peer(worker, stream, inside, peer).await;
}

fn peer(worker: &Worker, conn: ConnCx, (port, slot): (Arc<InboundPort>, Slot), mode: MtlsMode) -> Peer {
    Peer {
        metrics: worker.shared.telemetry.metrics.peer(Direction::Inbound, &service(conn.identity.as_deref())),
        refused: !conn.tls && matches!(mode, MtlsMode::Strict),
        conn: Arc::new(conn),
        port,
        _slot: slot,
    }
}

async fn serve_peer(worker: &Rc<Worker>, stream: Stream, inside: Option<Inside>, peer: Peer) {
    if inside == Some(Inside::Weft) {
        return serve_carried(worker, stream, peer).await;
    }
    let http = match (inside, &stream) {
        (Some(Inside::H2), _) => Some(Http::Two),
        (Some(Inside::Http1), _) => Some(Http::One),
        (None, Stream::Plain(plain)) if is_http(plain, &peer).await => serve::begin(worker, plain).await,
        (Some(Inside::Tcp | Inside::Weft) | None, _) => return tcp::handle(worker, stream, &peer).await,
    };
    let Some(speaks) = http else { return };
    let peer = Rc::new(peer);
    let handler = |request| http::handle(Rc::clone(worker), Rc::clone(&peer), request);
    let accepted = Accepted { direction: Direction::Inbound, conn: Arc::clone(&peer.conn) };
    serve::serve(worker, accepted, stream, speaks, handler).await;
}

/// Serves what another proxy sends over one connection.
async fn serve_carried(worker: &Rc<Worker>, stream: Stream, peer: Peer) {
    let peer = Rc::new(peer);
    let request = |request| {
        let request = serve::limited(&worker.shared.settings, request);
        http::handle(Rc::clone(worker), Rc::clone(&peer), request)
    };
    let tcp = |tunnel| {
        let (worker, peer) = (Rc::clone(worker), Rc::clone(&peer));
        async move { carried_tcp(&worker, tunnel, &peer).await }
    };
    carried::serve(worker, stream, (request, tcp)).await;
}

/// A raw connection within one that is shared counts as one of its own.
async fn carried_tcp(worker: &Rc<Worker>, tunnel: weft_transport::Tunnel, peer: &Peer) {
    let config = worker.shared.config.load_full();
    let Some(inbound) = &config.inbound else { return };
    let slot = match inbound.limits.connection() {
        Ok(slot) => slot,
        Err(reject) => return worker.shared.telemetry.metrics.rejected(Direction::Inbound, reject.reason),
    };
    drop(config);
    let _open = (worker.shared.connection_opened(), slot);
    tcp::handle(worker, Stream::Carried(Box::new(tunnel)), peer).await;
}

/// Whether plain bytes are HTTP, by declaration or, where nothing is declared, by how they begin.
async fn is_http(stream: &TcpStream, peer: &Peer) -> bool {
    match peer.port.protocol {
        Protocol::Tcp => false,
        Protocol::Unspecified => serve::is_http(stream).await,
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => true,
    }
}

fn refused(worker: &Worker, address: SocketAddr, error: &AcceptError) {
    let failure = match error {
        AcceptError::Timeout => TlsFailure::Timeout,
        AcceptError::TooMany => TlsFailure::TooMany,
        AcceptError::Closed(_) => return debug!(%error, peer = %address, "connection closed before it began"),
        AcceptError::Handshake(io) => TlsFailure::of(io),
        AcceptError::Identity(_) => TlsFailure::NoIdentity,
    };
    let metrics = &worker.shared.telemetry.metrics;
    metrics.handshake_failed(Direction::Inbound, failure);
    metrics.rejected(Direction::Inbound, Reason::PeerUnauthenticated);
    info!(peer = %address, reason = failure.label(), error = crate::operator::causes(error), "peer refused");
}

/// What metrics call the peer: `<namespace>/<service account>`.
fn service(identity: Option<&SpiffeId>) -> String {
    identity.map_or_else(|| "unknown".to_owned(), |id| format!("{}/{}", id.namespace(), id.account()))
}
