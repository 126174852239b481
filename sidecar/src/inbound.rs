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

use crate::config::snapshot::InboundPort;
use crate::cx::ConnCx;
use crate::http::serve::{self, Http};
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
    let Ok(original) = original_destination(&stream) else { return };
    let config = worker.shared.config.load_full();
    let Some(inbound) = &config.inbound else { return };
    let known = inbound.ports.iter().find(|port| port.app.port() == original.port());
    let port = match known {
        Some(port) => Arc::clone(port),
        // A port the service does not declare: raw bytes, under the same rules of mutual TLS and authorization.
        None => Arc::new(InboundPort {
            name: "undeclared".into(),
            protocol: Protocol::Tcp,
            listen: None,
            app: SocketAddr::new([127, 0, 0, 1].into(), original.port()),
            port: original.port(),
        }),
    };
    serve_port(worker, stream, address, port).await;
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
    let opened = match open(stream, inbound.mtls, &material, limit).await {
        Ok(opened) => opened,
        Err(error) => return refused(worker, address, &error),
    };
    let (stream, identity, inside) = match opened {
        Opened::Tls { stream, identity, inside } => (stream, identity, Some(inside)),
        Opened::Plain(stream) => (Stream::Plain(stream), None, None),
    };
    let peer = Peer {
        metrics: metrics.peer(Direction::Inbound, &service(identity.as_deref())),
        conn: Arc::new(ConnCx { peer: address, identity, port: port.port, tls: inside.is_some() }),
        port,
        refused: inside.is_none() && matches!(inbound.mtls, MtlsMode::Strict),
        _slot: slot,
    };
    // What is in use now must not be kept alive by a connection that lasts.
    drop((config, material));
    serve_peer(worker, stream, inside, peer).await;
}

async fn serve_peer(worker: &Rc<Worker>, stream: Stream, inside: Option<Inside>, peer: Peer) {
    let http = match (inside, &stream) {
        (Some(Inside::H2), _) => Some(Http::Two),
        (Some(Inside::Http1), _) => Some(Http::One),
        (None, Stream::Plain(plain)) if peer.port.protocol != Protocol::Tcp => {
            serve::begin(worker, plain).await
        }
        (Some(Inside::Tcp) | None, _) => return tcp::handle(worker, stream, &peer).await,
    };
    let Some(speaks) = http else { return };
    let peer = Rc::new(peer);
    let handler = |request, head| http::handle(Rc::clone(worker), Rc::clone(&peer), request, head);
    if let Err(error) = serve::serve(worker, stream, speaks, handler).await {
        serve::count_failure(worker, Direction::Inbound, &error);
    }
}

fn refused(worker: &Worker, address: SocketAddr, error: &AcceptError) {
    let failure = match error {
        AcceptError::Timeout => TlsFailure::Timeout,
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
