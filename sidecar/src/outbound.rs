//! From the application to a destination: accepts plain connections, finds out what they speak and where they want to
//! go, and hands them to the path for that.

pub mod attempts;
pub mod destination;
pub mod forward;
mod hedge;
pub mod http;
mod mirror;
pub mod routes;
mod span;
pub mod tcp;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;
use weft_api::v1::Protocol;

use crate::config::snapshot::OutboundListener;
use crate::cx::ConnCx;
use crate::http::serve::{self, Accepted};
use crate::net::redirect::original_destination;
use crate::net::stream::Stream;
use crate::net::worker::Worker;
use crate::telemetry::Direction;
use crate::tls::accept::HANDSHAKE;
use destination::{Found, To, Way, find};

/// Serves a connection accepted on a destination's own listener.
pub async fn serve(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr, listener: &OutboundListener) {
    let conn = ConnCx { peer, identity: None, port: listener.listen.port(), tls: false };
    let way = Way::new(To::Named(Arc::clone(&listener.destination)));
    serve_to(worker, stream, conn, way, listener.protocol).await;
}

/// Serves a redirected connection.
pub async fn serve_redirected(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr) {
    let Ok(original) = original_destination(&stream) else { return };
    let conn = ConnCx { peer, identity: None, port: original.port(), tls: false };
    let way = Way::new(To::Redirected(original));
    // Before anything is detected: where the server speaks first, waiting for the client would be in vain.
    let config = worker.shared.config.load_full();
    let protocol = match find(worker, &config, &way, "").await {
        Ok(Found::Known(destination, _)) => destination.protocol,
        // A refusal is said again on the path, in the words of what the client speaks.
        Ok(Found::Outside(_)) | Err(_) => Protocol::Unspecified,
    };
    drop(config);
    serve_to(worker, stream, conn, way, protocol).await;
}

async fn serve_to(worker: &Rc<Worker>, stream: TcpStream, conn: ConnCx, way: Way, protocol: Protocol) {
    let is_http = match protocol {
        Protocol::Tcp => false,
        Protocol::Unspecified => serve::is_http(&stream).await,
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => true,
    };
    let conn = Arc::new(conn);
    if !is_http {
        return tcp::handle(worker, Stream::Plain(stream), &conn, &way).await;
    }
    let Some(speaks) = serve::begin(worker, &stream).await else { return };
    if way.is_redirected() && begins_tls(&stream).await {
        // The application's own TLS, whatever is declared: nothing in it can be read.
        return tcp::handle(worker, Stream::Plain(stream), &conn, &way).await;
    }
    let stream = Stream::Plain(stream);
    let way = Rc::new(way);
    let handler = |request| http::handle(Rc::clone(worker), Arc::clone(&conn), Rc::clone(&way), request);
    let accepted = Accepted { direction: Direction::Outbound, conn: Arc::clone(&conn) };
    serve::serve(worker, accepted, stream, speaks, handler).await;
}

/// Whether what has come already begins a TLS handshake.
async fn begins_tls(stream: &TcpStream) -> bool {
    let mut first = [0];
    stream.peek(&mut first).await.is_ok_and(|count| count == 1) && first == [HANDSHAKE]
}
