//! The connection to the operator: gRPC over our own TLS, which accepts nobody but the operator's identity, and the
//! pace of trying again. Stands under `certs.rs` (no client certificate yet) and `config/client.rs` (mutual TLS).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use weft_api::names::{OPERATOR_ACCOUNT, OPERATOR_SERVER_NAME, SYSTEM_NAMESPACE};
use weft_api::tls::peer_identity;

/// For TCP and TLS together.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection whose peer is silent for the sum of these two is given up.
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(5);

/// Connects to the operator at `address` (`host:port`). The server must be `weft-operator` of `weft-system`, in
/// whatever trust domain the roots vouch for.
pub async fn connect(
    address: &str,
    tls: Arc<rustls::ClientConfig>,
) -> Result<Channel, tonic::transport::Error> {
    let address: Arc<str> = address.into();
    let connector = tower::service_fn(move |_: Uri| {
        let (address, tls) = (Arc::clone(&address), TlsConnector::from(Arc::clone(&tls)));
        async move { dial(&address, tls).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://operator")
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
}

async fn dial(address: &str, tls: TlsConnector) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from(OPERATOR_SERVER_NAME).expect("a constant DNS name");
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "TLS handshake with the operator timed out");
    let stream = timeout(CONNECT, tls.connect(name, tcp)).await.map_err(late)??;
    let peer = peer_identity(stream.get_ref().1.peer_certificates()).map_err(io::Error::other)?;
    if (peer.namespace(), peer.account()) != (SYSTEM_NAMESPACE, OPERATOR_ACCOUNT) {
        return Err(io::Error::other(format!("`{peer}` answers at {address}, which is not the operator")));
    }
    Ok(stream)
}

/// The words of an error and of all that caused it, for one log line.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}

/// Exponential backoff with jitter between two bounds.
#[derive(Debug)]
pub struct Backoff {
    least: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// Begins at `least` and doubles up to `most`.
    pub const fn new(least: Duration, most: Duration) -> Self {
        Self { least, most, next: least }
    }

    /// How long to wait now; `random` in 0..1 spreads it over the upper half, so that proxies that lost the operator
    /// together do not come back together.
    pub fn next(&mut self, random: f64) -> Duration {
        let now = self.next;
        self.next = (now * 2).min(self.most);
        now.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }

    /// It worked: the next failure begins anew.
    pub fn reset(&mut self) {
        self.next = self.least;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_its_bound_and_begins_anew_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let waits: Vec<u128> = (0..7).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 5000, 5000]);
        backoff.reset();
        assert_eq!(backoff.next(0.0).as_millis(), 100);
    }

    #[test]
    fn an_error_is_told_with_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] io::Error);
        assert_eq!(causes(&Outer(io::Error::other("inner"))), "outer: inner");
    }
}
