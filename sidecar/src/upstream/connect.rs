//! Makes one connection to an endpoint: TCP, and mutual TLS where the endpoint is in the mesh. After the handshake the
//! peer must be one of the identities that may serve the destination.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use weft_api::spiffe::SpiffeId;
use weft_api::tls::{TlsError, peer_identity};

use crate::config::Shared;
use crate::config::snapshot::MtlsPeer;
use crate::net::buffered::Buffered;
use crate::net::stream::Stream;
use crate::reject::{Reason, Reject};
use crate::settings::Transport;
use crate::telemetry::Direction;
use crate::telemetry::metrics::TlsFailure;

/// For connections to the application, and raw ones.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Speaks {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    H2,
    /// Raw TCP.
    Tcp,
}

/// Where to connect and who must be there.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Name of the destination, or of the application's port.
    pub name: &'a Arc<str>,
    /// Address.
    pub address: SocketAddr,
    /// Who must be there; none: plain text.
    pub peer: Option<&'a MtlsPeer>,
    /// For TCP and TLS together.
    pub connect_timeout: Duration,
    /// How long a connection may lie unused in the pool.
    pub idle_timeout: Duration,
}

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It took too long.
    #[error("connecting took too long")]
    Timeout,
    /// TCP failed.
    #[error("cannot connect")]
    Tcp(#[source] std::io::Error),
    /// The TLS handshake failed.
    #[error("TLS handshake failed")]
    Handshake(#[source] std::io::Error),
    /// The peer's certificate names no workload.
    #[error("peer has no identity")]
    Identity(#[source] TlsError),
    /// It is another workload.
    #[error("peer is {found}")]
    WrongIdentity {
        /// Who it is.
        found: SpiffeId,
    },
    /// There is no certificate of our own yet.
    #[error("no certificate yet")]
    NoCertificate,
    /// The HTTP handshake failed.
    #[error("HTTP handshake failed")]
    Http(#[source] hyper::Error),
    /// Another request made the connection that this one waited for, and failed.
    #[error(transparent)]
    Shared(Arc<Self>),
}

impl From<&ConnectError> for Reject {
    fn from(error: &ConnectError) -> Self {
        let reason = match error {
            ConnectError::Timeout => Reason::ConnectTimeout,
            ConnectError::Tcp(_) | ConnectError::Handshake(_) | ConnectError::Http(_) => {
                Reason::ConnectFailed
            }
            ConnectError::Identity(_) | ConnectError::WrongIdentity { .. } => Reason::PeerWrongIdentity,
            ConnectError::NoCertificate => Reason::NotReady,
            ConnectError::Shared(error) => return Self::from(&**error),
        };
        let detail = match std::error::Error::source(error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        Self::new(reason).because(detail)
    }
}

/// Connects. Returns the stream and who is at the other end.
pub async fn connect(
    shared: &Shared,
    target: Target<'_>,
    speaks: Speaks,
) -> Result<(Stream, Option<SpiffeId>), ConnectError> {
    let made = async {
        let stream = TcpStream::connect(target.address).await.map_err(ConnectError::Tcp)?;
        stream.set_nodelay(true).map_err(ConnectError::Tcp)?;
        match target.peer {
            None => Ok((Stream::Plain(stream), None)),
            Some(peer) => {
                let stream = own(shared, stream, target.address).await.map_err(ConnectError::Tcp)?;
                secure(stream, peer, config(shared, speaks)?).await
            }
        }
    };
    let made = timeout(target.connect_timeout, made).await.map_err(|_| ConnectError::Timeout)?;
    if let Some(failure) = made.as_ref().err().and_then(ConnectError::tls_failure) {
        shared.telemetry.metrics.handshake_failed(Direction::Outbound, failure);
    }
    made
}

/// Where traffic is redirected ours is not, so a call to this very instance would reach the application instead of its
/// proxy: such a connection, both of whose ends have one address, is made to the proxy's own port.
async fn own(shared: &Shared, stream: TcpStream, to: SocketAddr) -> io::Result<TcpStream> {
    let Some(inbound) = shared.settings.inbound_addr else { return Ok(stream) };
    if to.ip().is_loopback() || stream.local_addr()?.ip() != to.ip() {
        return Ok(stream);
    }
    drop(stream);
    let loopback: IpAddr = if to.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let stream = TcpStream::connect((loopback, inbound.port())).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl ConnectError {
    /// For the metric: which handshake failures there are.
    fn tls_failure(&self) -> Option<TlsFailure> {
        match self {
            Self::Handshake(error) => Some(TlsFailure::of(error)),
            Self::Identity(_) => Some(TlsFailure::NoIdentity),
            Self::WrongIdentity { .. } => Some(TlsFailure::WrongIdentity),
            Self::Timeout | Self::Tcp(_) | Self::NoCertificate | Self::Http(_) | Self::Shared(_) => None,
        }
    }
}

fn config(shared: &Shared, speaks: Speaks) -> Result<Arc<ClientConfig>, ConnectError> {
    let material = shared.identity.load();
    let material = material.as_ref().ok_or(ConnectError::NoCertificate)?;
    let weft = shared.settings.transport == Transport::Weft;
    Ok(Arc::clone(match speaks {
        Speaks::Http1 if weft => &material.weft_http1,
        Speaks::H2 if weft => &material.weft_h2,
        Speaks::Tcp if weft => &material.weft_tcp,
        Speaks::Http1 => &material.http1,
        Speaks::H2 => &material.h2,
        Speaks::Tcp => &material.tcp,
    }))
}

async fn secure(
    stream: TcpStream,
    peer: &MtlsPeer,
    config: Arc<ClientConfig>,
) -> Result<(Stream, Option<SpiffeId>), ConnectError> {
    let stream = TlsConnector::from(config)
        .connect(peer.server_name.clone(), Buffered::new(stream))
        .await
        .map_err(ConnectError::Handshake)?;
    let found = peer_identity(stream.get_ref().1.peer_certificates()).map_err(ConnectError::Identity)?;
    if !peer.identities.contains(&found) {
        return Err(ConnectError::WrongIdentity { found });
    }
    Ok((Stream::Connected(Box::new(stream)), Some(found)))
}
