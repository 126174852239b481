//! At the edge: listeners of a Gateway, plain or TLS, whose requests come from outside the mesh. Several listeners may
//! share an address and differ in their host name: TLS chooses by server name, HTTP by authority. Inwards a request
//! goes the outbound path of any sidecar.

pub mod http;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tracing::debug;
use weft_api::names::ALPN_H2;

use crate::config::snapshot::{GatewayListener, Snapshot};
use crate::cx::ConnCx;
use crate::http::serve::{self, Accepted, Http};
use crate::net::buffered::Buffered;
use crate::net::stream::Stream;
use crate::net::worker::Worker;
use crate::telemetry::Direction;
use crate::telemetry::metrics::TlsFailure;

/// Serves a connection accepted on the address of this listener.
pub async fn serve(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr, listener: &str) {
    let config = worker.shared.config.load_full();
    let Some(address) = address_of(&config, listener) else { return };
    let secure = at(&config, address).any(|listener| listener.tls.is_some());
    let limit = worker.shared.settings.client_header_timeout;
    let opened = if secure {
        let handshake = worker.handshakes.run(handshake(&config, address, stream, limit));
        handshake.await.unwrap_or_else(|| Err(std::io::ErrorKind::QuotaExceeded.into()))
    } else {
        plain(stream, limit).await
    };
    drop(config);
    let (stream, speaks) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let too_many = error.kind() == std::io::ErrorKind::QuotaExceeded;
            let failure = if too_many { TlsFailure::TooMany } else { TlsFailure::of(&error) };
            worker.shared.telemetry.metrics.handshake_failed(Direction::Gateway, failure);
            return debug!(%error, %peer, "connection from outside refused");
        }
    };
    let conn = Arc::new(ConnCx { peer, identity: None, port: address.port(), tls: secure });
    let handler = |request| http::handle(Rc::clone(worker), Arc::clone(&conn), address, request);
    let accepted = Accepted { direction: Direction::Gateway, conn: Arc::clone(&conn) };
    serve::serve(worker, accepted, stream, speaks, handler).await;
}

/// The address this listener is to be bound to.
fn address_of(config: &Snapshot, name: &str) -> Option<SocketAddr> {
    let listeners = config.gateway.iter().flat_map(|gateway| &gateway.listeners);
    listeners.filter(|listener| &*listener.name == name).map(|listener| listener.listen).next()
}

/// The listeners that share this address.
fn at(config: &Snapshot, address: SocketAddr) -> impl Iterator<Item = &Arc<GatewayListener>> {
    let listeners = config.gateway.iter().flat_map(|gateway| &gateway.listeners);
    listeners.filter(move |listener| listener.listen == address)
}

/// The listener for this host: one that names it, else one for all hosts.
fn for_host<'c>(config: &'c Snapshot, address: SocketAddr, host: &str) -> Option<&'c Arc<GatewayListener>> {
    let named = |l: &&Arc<GatewayListener>| l.hostname.as_ref().is_some_and(|name| name.matches(host));
    let all = |l: &&Arc<GatewayListener>| l.hostname.is_none();
    at(config, address).find(named).or_else(|| at(config, address).find(all))
}

async fn plain(stream: TcpStream, limit: Duration) -> std::io::Result<(Stream, Http)> {
    let speaks = timeout(limit, serve::sniff(&stream)).await.map_err(std::io::Error::from)??;
    Ok((Stream::Plain(stream), speaks))
}

async fn handshake(
    config: &Snapshot,
    address: SocketAddr,
    stream: TcpStream,
    limit: Duration,
) -> std::io::Result<(Stream, Http)> {
    let accepted = timeout(limit, async {
        let hello =
            LazyConfigAcceptor::new(rustls::server::Acceptor::default(), Buffered::new(stream)).await?;
        let name = hello.client_hello().server_name().unwrap_or_default().to_ascii_lowercase();
        let listener = for_host(config, address, &name).or_else(|| at(config, address).next());
        let tls = listener.and_then(|listener| listener.tls.clone());
        let tls = tls.ok_or_else(|| std::io::Error::other("no certificate for this server name"))?;
        hello.into_stream(tls).await
    });
    let stream = accepted.await.map_err(std::io::Error::from)??;
    let h2 = stream.get_ref().1.alpn_protocol() == Some(ALPN_H2);
    Ok((Stream::Accepted(Box::new(stream)), if h2 { Http::Two } else { Http::One }))
}
