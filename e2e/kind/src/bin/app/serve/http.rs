//! HTTP of the server.
//!
//! `/health` 200 or 503; `/fail?on=true` lets everything but `/health` fail; `/unhealthy?on=true` lets `/health` fail;
//! `/status/418` answers so; `/ws` echoes; `/grpc.health.v1.Health/Check` says SERVING; the rest is a [`Who`].

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt, stream};
use http::header::{CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use weft_e2e_kind::wire::Who;

use super::Server;

type Body = BoxBody<Bytes, Infallible>;

pub(super) async fn serve(server: Arc<Server>, stream: TcpStream) {
    let answering = Arc::clone(&server);
    let service = service_fn(move |request| {
        let server = Arc::clone(&answering);
        async move { Ok::<_, Infallible>(answer(server, request).await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // A peer that goes away or talks nonsense ends its connection and nothing else.
        _ = connection.as_mut() => {}
        () = server.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
        }
    }
}

async fn answer(server: Arc<Server>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/health" if server.unhealthy.load(Ordering::Relaxed) => {
            status(StatusCode::SERVICE_UNAVAILABLE, "told to be unhealthy")
        }
        "/health" => status(StatusCode::OK, "healthy"),
        "/fail" => switch(&server.failing, &request),
        "/unhealthy" => switch(&server.unhealthy, &request),
        "/grpc.health.v1.Health/Check" => grpc_health(&server),
        _ if server.failing.load(Ordering::Relaxed) => {
            status(StatusCode::INTERNAL_SERVER_ERROR, "told to fail")
        }
        "/ws" => websocket(server, request),
        _ => match path.strip_prefix("/status/").and_then(|code| code.parse::<StatusCode>().ok()) {
            Some(code) => status(code, "as asked"),
            None => who(&server, path, request).await,
        },
    }
}

async fn who(server: &Server, path: String, request: Request<Incoming>) -> Response<Body> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = request.headers().iter().map(|(name, value)| (name.as_str().to_owned(), text(value)));
    let headers = headers.collect();
    let Ok(body) = request.into_body().collect().await else {
        return status(StatusCode::BAD_REQUEST, "the body broke off");
    };
    let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    let who = Who { pod: server.name.clone(), path, headers, body };
    let mut response = status(StatusCode::OK, &serde_json::to_string(&who).unwrap_or_default());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn switch(flag: &AtomicBool, request: &Request<Incoming>) -> Response<Body> {
    flag.store(request.uri().query() == Some("on=true"), Ordering::Relaxed);
    status(StatusCode::OK, "switched")
}

fn status(code: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text.to_owned())).boxed());
    *response.status_mut() = code;
    response
}

/// SERVING or `NOT_SERVING` as the protocol's few bytes: flag, length, field 1 as a number.
fn grpc_health(server: &Server) -> Response<Body> {
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(2);
    message.put_u8(0x08);
    message.put_u8(if server.unhealthy.load(Ordering::Relaxed) { 2 } else { 1 });
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Ok(Frame::data(message.freeze())), Ok(Frame::trailers(trailers))];
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(stream::iter(frames))));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn websocket(server: Arc<Server>, mut request: Request<Incoming>) -> Response<Body> {
    let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) else {
        return status(StatusCode::BAD_REQUEST, "not a WebSocket");
    };
    let accept = derive_accept_key(key.as_bytes());
    let mut response = status(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::try_from(accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    let upgraded = hyper::upgrade::on(&mut request);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        if let Ok(upgraded) = upgraded.await {
            echo(server, TokioIo::new(upgraded)).await;
        }
    });
    // It ends with its connection or with the server.
    tasks.detach_all();
    response
}

async fn echo(server: Arc<Server>, stream: TokioIo<hyper::upgrade::Upgraded>) {
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    loop {
        let message = tokio::select! {
            message = socket.next() => message,
            () = server.stop.cancelled() => break,
        };
        let Some(Ok(message)) = message else { break };
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            break;
        }
    }
    // The other end may be gone already.
    drop(socket.close(None).await);
}
