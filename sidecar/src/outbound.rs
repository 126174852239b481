//! From the application to a destination: accepts plain connections, finds out what they speak and where they want to
//! go, and hands them to the path for that.

pub mod attempts;
pub mod destination;
pub mod forward;
pub mod http;
pub mod routes;
pub mod tcp;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::debug;
use weft_api::v1::Protocol;

use crate::config::snapshot::OutboundListener;
use crate::cx::ConnCx;
use crate::http::serve::{self, Http};
use crate::net::redirect::original_destination;
use crate::net::stream::Stream;
use crate::net::worker::Worker;
use crate::telemetry::Direction;
use destination::To;

/// How long a silent client is waited for where the protocol is not declared.
const DETECT: Duration = Duration::from_secs(1);

/// Serves a connection accepted on a destination's own listener.
pub async fn serve(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr, listener: &OutboundListener) {
    let conn = ConnCx { peer, identity: None, port: listener.listen.port(), tls: false };
    let to = To::Named(Arc::clone(&listener.destination));
    serve_to(worker, stream, conn, to, listener.protocol).await;
}

/// Serves a redirected connection.
pub async fn serve_redirected(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr) {
    let Ok(original) = original_destination(&stream) else { return };
    let conn = ConnCx { peer, identity: None, port: original.port(), tls: false };
    serve_to(worker, stream, conn, To::Redirected(original), Protocol::Unspecified).await;
}

async fn serve_to(worker: &Rc<Worker>, stream: TcpStream, conn: ConnCx, to: To, protocol: Protocol) {
    let speaks = match protocol {
        Protocol::Tcp => None,
        Protocol::Unspecified => detect(&stream).await,
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => serve::sniff(&stream).await.ok(),
    };
    let (conn, stream) = (Arc::new(conn), Stream::Plain(stream));
    let Some(speaks) = speaks else { return tcp::handle(worker, stream, &conn, &to).await };
    let to = Rc::new(to);
    let handler =
        |request, head| http::handle(Rc::clone(worker), Arc::clone(&conn), Rc::clone(&to), request, head);
    if let Err(error) = serve::serve(worker, stream, speaks, handler).await {
        serve::count_failure(worker, Direction::Outbound, &error);
    }
}

/// What an undeclared connection speaks; none: not HTTP, or it waits for the server to speak first.
async fn detect(stream: &TcpStream) -> Option<Http> {
    let mut first = [0; 24];
    let count = timeout(DETECT, stream.peek(&mut first)).await.ok()?.ok()?;
    let seen = first.get(..count)?;
    let method = seen.split(|&byte| byte == b' ').next()?;
    let is_http =
        !method.is_empty() && method.len() < seen.len() && method.iter().all(u8::is_ascii_uppercase);
    if !is_http {
        debug!("not HTTP");
        return None;
    }
    serve::sniff(stream).await.ok()
}
