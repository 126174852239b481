//! A tiny HTTP/1.1 client for one request per connection: health checks, the control socket, admin pages. Every call
//! has a deadline. It neither keeps connections nor follows redirects.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// An answer larger than this is not one of ours.
const LARGEST_BODY: usize = 64 << 20;

/// Whom to ask.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Server<'a> {
    /// An address.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(&'a Path),
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum CallError {
    /// Nobody listens there.
    #[error("cannot connect: {0}")]
    Connect(#[source] std::io::Error),
    /// It did not answer in time.
    #[error("no answer within {} s", .0.as_secs_f64())]
    Late(Duration),
    /// It does not speak HTTP, or hung up.
    #[error("broken answer: {0}")]
    Broken(String),
}

/// Sends one request without body and reads the whole answer.
pub(crate) async fn call(
    server: Server<'_>,
    method: Method,
    path: &str,
    within: Duration,
) -> Result<(StatusCode, Bytes), CallError> {
    let work = async {
        match server {
            Server::Tcp(addr) => {
                let stream = TcpStream::connect(addr).await.map_err(CallError::Connect)?;
                exchange(stream, &addr.to_string(), method, path).await
            }
            Server::Unix(socket) => {
                let stream = UnixStream::connect(socket).await.map_err(CallError::Connect)?;
                exchange(stream, "weft", method, path).await
            }
        }
    };
    tokio::time::timeout(within, work).await.unwrap_or(Err(CallError::Late(within)))
}

/// Sends one request without body over a connection and reads the whole answer. The deadline is the caller's.
pub(crate) async fn exchange<S>(
    stream: S,
    host: &str,
    method: Method,
    path: &str,
) -> Result<(StatusCode, Bytes), CallError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let broken = |error: &dyn std::fmt::Display| CallError::Broken(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| broken(&e))?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::HOST, host)
        .header(http::header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| broken(&e))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|e| broken(&e))?;
        let status = response.status();
        let body =
            Limited::new(response.into_body(), LARGEST_BODY).collect().await.map_err(|e| broken(&e))?;
        Ok((status, body.to_bytes()))
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answered = &mut answer => answered,
        // The connection ends when the answer is complete; what it read is still to be collected.
        _ = connection => answer.await,
    }
}
