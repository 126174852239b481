//! The gRPC listener: accepts, does the TLS handshake, and hands connections to the identity and configuration
//! services. A client certificate is optional here, because a proxy has none before its first Sign; what a connection
//! without one may do, the services decide by the connection's [`Peer`].

pub(crate) mod admin;
mod config;
mod identity;
pub(crate) mod replicas;
pub(crate) mod webhook;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tracing::{debug, warn};
use weft_api::names::ALPN_H2;
use weft_api::spiffe::SpiffeId;
use weft_api::tls::{self, ClientAuth, TlsError};
use weft_api::v1::config_server::ConfigServer;
use weft_api::v1::identity_server::IdentityServer;
use weft_api::v1::replicas_server::ReplicasServer;

pub(crate) use self::config::ConfigService;
pub(crate) use self::identity::IdentityService;
pub(crate) use self::replicas::ReplicasService;
use crate::clock::unix_now;
use crate::metrics::Metrics;

const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);
const HANDSHAKES_AT_ONCE: usize = 256;
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// A proxy that vanished without a word is noticed within the two together.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(20);
const KEEPALIVE_WITHIN: Duration = Duration::from_secs(10);

/// Who is at the other end of a connection that showed a certificate.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) id: SpiffeId,
    /// When its certificate ends.
    pub(crate) ends: Instant,
}

/// The TLS configuration of the listener; replaced when the operator's certificate is renewed.
pub(crate) type ServerTls = Arc<ArcSwap<rustls::ServerConfig>>;

/// What the listener needs.
pub(crate) struct Grpc {
    pub(crate) listener: TcpListener,
    pub(crate) tls: ServerTls,
    pub(crate) trust_domain: String,
    pub(crate) identity: IdentityService,
    pub(crate) config: ConfigService,
    pub(crate) replicas: ReplicasService,
    pub(crate) metrics: Arc<Metrics>,
}

/// TLS for the listener by the operator's own identity.
pub(crate) fn server_tls(identity: &tls::Identity) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let mut config = tls::server_config(identity, ClientAuth::Optional, &[ALPN_H2])?;
    // A resumed session skips the verifier; streams are few and long, so nothing is gained by resuming one.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

impl Grpc {
    /// Serves until `stopping`, then lets open requests end.
    pub(crate) async fn serve(self, stopping: CancellationToken) -> Result<(), tonic::transport::Error> {
        let (accepted, connections) = mpsc::channel(HANDSHAKES_AT_ONCE);
        let accept =
            Accept { tls: self.tls, trust_domain: self.trust_domain.into(), metrics: self.metrics, accepted };
        let server = Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE_EVERY))
            .http2_keepalive_timeout(Some(KEEPALIVE_WITHIN))
            .max_concurrent_streams(Some(64))
            .add_service(IdentityServer::new(self.identity))
            .add_service(ConfigServer::new(self.config))
            .add_service(ReplicasServer::new(self.replicas));
        let connections = ReceiverStream::new(connections);
        let served = server.serve_with_incoming_shutdown(connections, stopping.clone().cancelled_owned());
        let ((), served) = tokio::join!(accept.run(self.listener, stopping), served);
        served
    }
}

#[derive(Clone)]
struct Accept {
    tls: ServerTls,
    trust_domain: Arc<str>,
    metrics: Arc<Metrics>,
    accepted: mpsc::Sender<Result<Connection, std::io::Error>>,
}

impl Accept {
    async fn run(self, listener: TcpListener, stopping: CancellationToken) {
        let handshakes = TaskTracker::new();
        let room = Arc::new(Semaphore::new(HANDSHAKES_AT_ONCE));
        while let Some((tcp, permit)) = stopping.run_until_cancelled(next(&listener, &room)).await {
            // Boxed: its future is large, and most of the time there is none.
            let handshake = Box::pin(self.clone().handshake(tcp));
            let stopping = stopping.clone();
            handshakes.spawn(async move {
                stopping.run_until_cancelled(handshake).await;
                drop(permit);
            });
        }
        drop(self);
        handshakes.close();
        handshakes.wait().await;
    }

    async fn handshake(self, tcp: TcpStream) {
        let from = tcp.peer_addr().ok();
        let handshake = TlsAcceptor::from(self.tls.load_full()).accept(tcp);
        let tls = match tokio::time::timeout(HANDSHAKE_WITHIN, handshake).await {
            Ok(Ok(tls)) => tls,
            Ok(Err(error)) => return self.refuse(from, &error.to_string()),
            Err(_) => return self.refuse(from, "the handshake took too long"),
        };
        let certificates = tls.get_ref().1.peer_certificates();
        let peer = match certificates.map(|certificates| peer(certificates, &self.trust_domain)).transpose() {
            Ok(peer) => peer,
            Err(why) => return self.refuse(from, &why),
        };
        if self.accepted.send(Ok(Connection { tls, peer })).await.is_err() {
            debug!("connection came while stopping");
        }
    }

    fn refuse(&self, from: Option<std::net::SocketAddr>, why: &str) {
        self.metrics.handshakes_refused.inc();
        let from = from.map(|from| from.to_string());
        warn!(from, why, "connection refused");
    }
}

/// The next connection, once there is room for its handshake.
async fn next(listener: &TcpListener, room: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let permit = Arc::clone(room).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((tcp, _)) => return (tcp, permit),
            Err(error) => {
                // Out of file descriptors, most likely: give connections time to end.
                warn!(%error, "connection not accepted");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
}

fn peer(certificates: &[rustls_pki_types::CertificateDer<'_>], trust_domain: &str) -> Result<Peer, String> {
    let id = tls::peer_identity(Some(certificates)).map_err(|error| error.to_string())?;
    if id.trust_domain() != trust_domain {
        return Err(format!("{id} is not of the trust domain {trust_domain}"));
    }
    let (_, not_after) =
        certificates.first().and_then(tls::validity).ok_or("no validity in the certificate")?;
    let left = u64::try_from(not_after - unix_now()).unwrap_or_default();
    Ok(Peer { id, ends: Instant::now() + Duration::from_secs(left) })
}

/// A connection after its handshake.
struct Connection {
    tls: TlsStream<TcpStream>,
    peer: Option<Peer>,
}

impl Connected for Connection {
    type ConnectInfo = Option<Peer>;

    fn connect_info(&self) -> Option<Peer> {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
