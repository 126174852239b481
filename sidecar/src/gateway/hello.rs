//! How a TLS connection from outside begins: its `ClientHello` is read, and by the server name that it asks for TLS ends
//! here or goes through. Leaves out what happens then.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::Accepted;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::StartHandshake;
use weft_api::names::ALPN_H2;

use super::through::Through;
use super::{at, for_host};
use crate::config::snapshot::{EdgeTls, Snapshot};
use crate::http::serve::Http;
use crate::net::buffered::Buffered;
use crate::net::linger::tell;
use crate::net::stream::Stream;
use crate::telemetry::metrics::TlsFailure;
use crate::tls::hello::{Hello, HelloError};

/// Bytes of a `ClientHello` that one read is to take in, with keys for algorithms of after quantum computers.
const USUAL: usize = 2048;

/// What a connection turned out to be.
#[derive(Debug)]
pub(super) enum Opened {
    /// Requests.
    Http(Stream, Http),
    /// TLS of somebody behind this gateway.
    Through(Box<Through>),
}

/// Why a connection was not opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// It sent nothing, or not enough, in time.
    #[error("took too long to begin")]
    Timeout,
    /// Too many were under way, and this was the oldest.
    #[error("too many handshakes under way")]
    TooMany,
    /// It cannot be read, or the handshake failed.
    #[error("TLS handshake failed")]
    Handshake(#[source] io::Error),
    /// It does not begin as TLS does.
    #[error("TLS does not begin")]
    Hello(#[source] HelloError),
}

impl OpenError {
    /// For the metric.
    pub(super) fn failure(&self) -> TlsFailure {
        match self {
            Self::Timeout => TlsFailure::Timeout,
            Self::TooMany => TlsFailure::TooMany,
            Self::Handshake(error) => TlsFailure::of(error),
            Self::Hello(_) => TlsFailure::Protocol,
        }
    }
}

/// Opens a connection to one of the listeners at this address, of which at least one speaks TLS.
pub(super) async fn open(
    config: &Snapshot,
    address: SocketAddr,
    mut stream: TcpStream,
    limit: Duration,
) -> Result<Opened, OpenError> {
    let opening = async {
        let (hello, accepted) = match read(&mut stream).await? {
            Ok(read) => read,
            Err(error) => {
                tell(Stream::Plain(stream), error.alert()).await;
                return Err(OpenError::Hello(error));
            }
        };
        let name = accepted.client_hello().server_name().unwrap_or_default().to_ascii_lowercase();
        if let Some(tls) = ends_here(config, address, &name) {
            return handshake(stream, (hello, accepted), tls).await;
        }
        let through = for_host(config, address, &name).filter(|l| matches!(l.tls, EdgeTls::Through));
        let route = through.and_then(|listener| listener.routes.of_host(&name));
        let stream = Stream::Begun(Box::new(Buffered::begun(stream, hello.read)));
        Ok(Opened::Through(Box::new(Through { stream, name: name.into(), route })))
    };
    timeout(limit, opening).await.map_err(|_| OpenError::Timeout)?
}

/// Reads until the `ClientHello` is whole, and maybe beyond.
async fn read(stream: &mut TcpStream) -> Result<Result<(Hello, Accepted), HelloError>, OpenError> {
    let mut hello = Hello::default();
    loop {
        let room = hello.room();
        hello.read.reserve(room.min(USUAL));
        let count =
            (&mut *stream).take(room as u64).read_buf(&mut hello.read).await.map_err(OpenError::Handshake)?;
        if count == 0 {
            return Err(OpenError::Handshake(io::ErrorKind::UnexpectedEof.into()));
        }
        match hello.look() {
            Ok(None) => {}
            Ok(Some(accepted)) => return Ok(Ok((hello, accepted))),
            Err(error) => return Ok(Err(error)),
        }
    }
}

/// With what TLS for this server name ends here; none: it goes through, or nobody knows the name. A name that is nobody's
/// is shown the first certificate there is, so that its requests can be answered.
fn ends_here(config: &Snapshot, address: SocketAddr, name: &str) -> Option<Arc<ServerConfig>> {
    let ends = |tls: &EdgeTls| match tls {
        EdgeTls::Ends(config) => Some(Arc::clone(config)),
        EdgeTls::Plain | EdgeTls::Through => None,
    };
    match for_host(config, address, name) {
        Some(listener) => ends(&listener.tls),
        None => at(config, address).find_map(|listener| ends(&listener.tls)),
    }
}

async fn handshake(
    stream: TcpStream,
    (hello, accepted): (Hello, Accepted),
    tls: Arc<ServerConfig>,
) -> Result<Opened, OpenError> {
    let stream = Buffered::begun(stream, hello.rest());
    let stream = StartHandshake::from_parts(accepted, stream).into_stream(tls).await;
    let stream = stream.map_err(OpenError::Handshake)?;
    let h2 = stream.get_ref().1.alpn_protocol() == Some(ALPN_H2);
    Ok(Opened::Http(Stream::Accepted(Box::new(stream)), if h2 { Http::Two } else { Http::One }))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    /// After how many seconds a client that sends this, and maybe no more, is not let in, and why.
    async fn opened_after(sent: &[u8], closes: bool) -> (u64, OpenError) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (far, near) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (mut far, near) = (far.unwrap(), near.unwrap().0);
        far.write_all(sent).await.unwrap();
        if closes {
            far.shutdown().await.unwrap();
        }
        tokio::time::pause();
        let begun = tokio::time::Instant::now();
        let opened = open(&Snapshot::default(), address, near, Duration::from_secs(10)).await;
        (begun.elapsed().as_secs(), opened.unwrap_err())
    }

    #[tokio::test]
    async fn a_client_that_does_not_end_its_hello_is_given_up() {
        let (after, error) = opened_after(&[22, 3, 1, 2, 0, 1], false).await;
        assert_eq!((after, error.failure()), (10, TlsFailure::Timeout), "{error}");
        tokio::time::resume();
        let (after, error) = opened_after(&[22, 3, 1, 2, 0, 1], true).await;
        assert_eq!((after, error.failure()), (0, TlsFailure::Closed), "{error}");
    }
}
