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
use weft_api::v1::Protocol;

use crate::config::snapshot::OutboundListener;
use crate::cx::ConnCx;
use crate::http::serve;
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
    let is_http = match protocol {
        Protocol::Tcp => false,
        Protocol::Unspecified => is_http(&stream).await,
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => true,
    };
    let conn = Arc::new(conn);
    if !is_http {
        return tcp::handle(worker, Stream::Plain(stream), &conn, &to).await;
    }
    let Some(speaks) = serve::begin(worker, &stream).await else { return };
    let stream = Stream::Plain(stream);
    let to = Rc::new(to);
    let handler =
        |request, head| http::handle(Rc::clone(worker), Arc::clone(&conn), Rc::clone(&to), request, head);
    if let Err(error) = serve::serve(worker, stream, speaks, handler).await {
        serve::count_failure(worker, Direction::Outbound, &error);
    }
}

/// Whether an undeclared connection begins like HTTP; not, where it waits for the server to speak first.
async fn is_http(stream: &TcpStream) -> bool {
    let mut first = [0; 24];
    let Ok(Ok(count)) = timeout(DETECT, stream.peek(&mut first)).await else { return false };
    let seen = first.get(..count).unwrap_or_default();
    let method = seen.split(|&byte| byte == b' ').next().unwrap_or_default();
    !method.is_empty() && method.len() < seen.len() && method.iter().all(u8::is_ascii_uppercase)
}
