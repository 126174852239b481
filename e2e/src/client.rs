//! Clients: one request per connection over HTTP/1.1 or HTTP/2, raw bytes for what no client would send, and
//! the TLS of a client that a test brings itself.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::SOON;
use crate::apps::http::Seen;

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Trailers, if any came.
    pub trailers: Option<HeaderMap>,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    /// Value of a header; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// `x-weft-reason`; empty when the request was not refused by a proxy.
    pub fn reason(&self) -> &str {
        self.header("x-weft-reason")
    }

    /// What the application saw.
    pub fn seen(&self) -> Seen {
        self.json()
    }

    /// Body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{}: {error}: {text}", self.status))
    }

    /// Body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Builds a request; the path may hold a query.
pub fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path)
}

/// GET over HTTP/1.1.
pub async fn get(addr: SocketAddr, path: &str) -> Answer {
    send(addr, request("GET", path).body(Bytes::new()).unwrap()).await
}

/// GET with a bearer token.
pub async fn get_with_token(addr: SocketAddr, path: &str, token: &str) -> Answer {
    let request = request("GET", path).header("authorization", format!("Bearer {token}"));
    send(addr, request.body(Bytes::new()).unwrap()).await
}

/// One request on a connection of its own, HTTP/1.1. A missing Host header is set to the address.
pub async fn send(addr: SocketAddr, request: Request<Bytes>) -> Answer {
    try_send(addr, request).await.unwrap()
}

/// As [`send`], with the error where there was no answer.
pub async fn try_send(addr: SocketAddr, mut request: Request<Bytes>) -> anyhow::Result<Answer> {
    if !request.headers().contains_key("host") {
        request.headers_mut().insert("host", addr.to_string().parse().unwrap());
    }
    let stream = TcpStream::connect(addr).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    collect(timeout(SOON, sender.send_request(request.map(Full::new))).await??).await
}

/// One request on a connection of its own, HTTP/2 by prior knowledge.
pub async fn send_http2(addr: SocketAddr, request: Request<Bytes>) -> Answer {
    let (mut parts, body) = request.into_parts();
    let uri = format!("http://{addr}{}", parts.uri.path_and_query().unwrap());
    parts.uri = uri.parse().unwrap();
    let stream = TcpStream::connect(addr).await.unwrap();
    let io = TokioIo::new(stream);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let request = Request::from_parts(parts, Full::new(body));
    collect(timeout(SOON, sender.send_request(request)).await.unwrap().unwrap()).await.unwrap()
}

async fn collect(response: http::Response<hyper::body::Incoming>) -> anyhow::Result<Answer> {
    let (parts, body) = response.into_parts();
    let body = timeout(SOON, body.collect()).await??;
    let trailers = body.trailers().cloned();
    Ok(Answer { status: parts.status, headers: parts.headers, trailers, body: body.to_bytes() })
}

/// Writes these bytes and reads until the other side closes.
pub async fn raw(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    // The other side may refuse and close before it has read everything.
    drop(stream.write_all(bytes).await);
    let mut answer = Vec::new();
    let read = timeout(SOON, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection was not closed; got {}", String::from_utf8_lossy(&answer));
    String::from_utf8_lossy(&answer).into_owned()
}

/// A TLS client that trusts this one certificate and offers these protocols.
pub fn trusting(certificate: &CertificateDer<'static>, alpn: &[&[u8]]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(weft_api::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config
}
