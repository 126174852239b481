//! The accepting side inside the mesh: is it TLS, who is it, and what does ALPN say is inside. The identity is read from
//! the peer's certificates of every connection, because a resumed session skips the verifier.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use weft_api::names::{ALPN_H2, ALPN_MESH, ALPN_TCP, ALPN_WEFT};
use weft_api::spiffe::SpiffeId;
use weft_api::tls::{TlsError, peer_identity};
use weft_api::v1::{MtlsMode, Protocol};

use super::TlsMaterial;
use crate::net::buffered::Buffered;
use crate::net::stream::Stream;

/// First byte of a TLS record with a handshake (RFC 8446, section 5.1); no HTTP method begins with it.
pub const HANDSHAKE: u8 = 0x16;
/// Larger than any `ClientHello` there is.
const MAX_HELLO: usize = 16 << 10;
/// How long a silent client on a permissive port is given to begin TLS before it is taken for plain text.
const SILENCE: Duration = Duration::from_millis(250);

/// What a connection turned out to be.
#[derive(Debug)]
pub enum Opened {
    /// Mutual TLS, or TLS without client certificate where that is permitted.
    Tls {
        /// Decrypted bytes.
        stream: Stream,
        /// Who it is.
        identity: Option<Arc<SpiffeId>>,
        /// What is inside.
        inside: Inside,
    },
    /// Plain text.
    Plain(TcpStream),
}

/// What ALPN says is inside a TLS connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    /// HTTP/1.1, also where ALPN says nothing.
    Http1,
    /// HTTP/2.
    H2,
    /// Raw TCP.
    Tcp,
    /// Many requests by `weft/1`.
    Weft,
}

impl Inside {
    /// What this ALPN name says.
    pub fn of(alpn: Option<&[u8]>) -> Self {
        match alpn {
            Some(ALPN_WEFT) => Self::Weft,
            Some(ALPN_H2) => Self::H2,
            Some(ALPN_TCP) => Self::Tcp,
            _ => Self::Http1,
        }
    }
}

/// Why a connection was not let in.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// It sent nothing, or not all of its handshake, in time.
    #[error("handshake took too long")]
    Timeout,
    /// Too many were under way, and this was the oldest.
    #[error("too many handshakes under way")]
    TooMany,
    /// It was closed, or its first bytes could not be read.
    #[error("connection closed before it began")]
    Closed(#[source] std::io::Error),
    /// The handshake failed.
    #[error("TLS handshake failed")]
    Handshake(#[source] std::io::Error),
    /// Its certificate names no workload.
    #[error("peer has no identity")]
    Identity(#[source] TlsError),
}

/// Opens an accepted connection as `mode` asks. Where bytes are passed as they are, the application's own TLS is too, as
/// long as plain text would be.
pub async fn open(
    stream: TcpStream,
    (mode, protocol): (MtlsMode, Protocol),
    material: &TlsMaterial,
    limit: Duration,
) -> Result<Opened, AcceptError> {
    let config = match mode {
        MtlsMode::Disabled => return Ok(Opened::Plain(stream)),
        MtlsMode::Permissive => {
            if !is_tls(&stream, SILENCE).await.unwrap_or(Ok(false))? {
                return Ok(Opened::Plain(stream));
            }
            if matches!(protocol, Protocol::Tcp | Protocol::Unspecified) && !is_mesh(&stream, limit).await {
                return Ok(Opened::Plain(stream));
            }
            &material.permissive
        }
        MtlsMode::Strict | MtlsMode::Unspecified => {
            if !is_tls(&stream, limit).await.ok_or(AcceptError::Timeout)?? {
                return Ok(Opened::Plain(stream));
            }
            &material.strict
        }
    };
    timeout(limit, handshake(stream, config, mode)).await.map_err(|_| AcceptError::Timeout)?
}

/// None: it said nothing in time.
async fn is_tls(stream: &TcpStream, limit: Duration) -> Option<Result<bool, AcceptError>> {
    let mut first = [0];
    let peeked = timeout(limit, stream.peek(&mut first)).await.ok()?;
    Some(peeked.map(|count| count == 1 && first == [HANDSHAKE]).map_err(AcceptError::Closed))
}

/// Whether the TLS that begins here is the mesh's, by the names that its proxies offer; not, where it does not say so in
/// time. Nothing is consumed.
async fn is_mesh(stream: &TcpStream, limit: Duration) -> bool {
    let mut seen = vec![0; MAX_HELLO];
    let look = async {
        loop {
            let count = stream.peek(&mut seen).await.ok()?;
            match hello(seen.get(..count)?) {
                Hello::Whole(mesh) => return Some(mesh),
                Hello::Broken => return None,
                Hello::Partial if count == 0 || count == MAX_HELLO => return None,
                // Peeking again at once would spin, so let others run.
                Hello::Partial => sleep(Duration::from_millis(1)).await,
            }
        }
    };
    timeout(limit, look).await.ok().flatten().unwrap_or(false)
}

/// What the first bytes of a connection are as a `ClientHello`.
#[derive(Debug, PartialEq, Eq)]
enum Hello {
    /// All of it, and whether a proxy of the mesh says it.
    Whole(bool),
    /// The beginning of one.
    Partial,
    /// None.
    Broken,
}

fn hello(mut bytes: &[u8]) -> Hello {
    let mut acceptor = Acceptor::default();
    while !bytes.is_empty() {
        match acceptor.read_tls(&mut bytes) {
            Ok(0) => break,
            Ok(_) => {}
            Err(_) => return Hello::Broken,
        }
        match acceptor.accept() {
            Ok(None) => {}
            Ok(Some(accepted)) => {
                let offered = accepted.client_hello().alpn();
                let ours = |name: &[u8]| name == ALPN_MESH || name == ALPN_TCP;
                return Hello::Whole(offered.is_some_and(|mut names| names.any(ours)));
            }
            Err(_) => return Hello::Broken,
        }
    }
    Hello::Partial
}

async fn handshake(
    stream: TcpStream,
    config: &Arc<ServerConfig>,
    mode: MtlsMode,
) -> Result<Opened, AcceptError> {
    let stream = TlsAcceptor::from(Arc::clone(config))
        .accept(Buffered::new(stream))
        .await
        .map_err(AcceptError::Handshake)?;
    let connection = stream.get_ref().1;
    let identity = match peer_identity(connection.peer_certificates()) {
        Ok(identity) => Some(Arc::new(identity)),
        Err(TlsError::NoCertificate) if mode == MtlsMode::Permissive => None,
        Err(error) => return Err(AcceptError::Identity(error)),
    };
    let inside = Inside::of(connection.alpn_protocol());
    Ok(Opened::Tls { stream: Stream::Accepted(Box::new(stream)), identity, inside })
}
