//! One WebSocket: from the request that asks for it to its last byte. Knows frames, not what they say.
//!
//! The handshake is done here rather than by axum's `ws`, which keeps the connection to itself: a refused frame of a
//! megabyte must be read off it before it is closed, or the reset that follows takes the close frame with it. Buffers
//! are small, as thousands of connections wait most of the time.

use std::time::Duration;

use ::http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};
use axum::{
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use shop_kit::errors::{Kind, Problem};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message, Utf8Bytes,
        error::ProtocolError,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig},
    },
};

use crate::domain::{closing::Closing, frame::LARGEST_FRAME};

const READ_BUFFER: usize = 4 * 1024;
/// Frames are gathered up to this before they are written.
const WRITE_BUFFER: usize = 16 * 1024;
/// Longest time from the answer to the handshake until the connection is ours.
const UPGRADE: Duration = Duration::from_secs(10);
/// Longest time to wait for the client's side of a close.
const FAREWELL: Duration = Duration::from_secs(2);
/// Most that is read off a connection after a refused frame.
const MOST_LEFT_OVER: u64 = 16 * 1024 * 1024;

/// A request to become a WebSocket.
pub struct Upgrade {
    accept: HeaderValue,
    connection: OnUpgrade,
}

impl<S: Send + Sync> FromRequestParts<S> for Upgrade {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let no = |detail: &str| Problem::new(Kind::Malformed, "not-a-websocket", detail);
        let headers = &parts.headers;
        let asks = has_token(headers, header::CONNECTION, "upgrade")
            && has_token(headers, header::UPGRADE, "websocket");
        if parts.method != Method::GET || !asks {
            return Err(no("this is for WebSockets: send Connection: Upgrade and Upgrade: websocket"));
        }
        if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err(no("Sec-WebSocket-Version must be 13"));
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or_else(|| no("Sec-WebSocket-Key is missing"))?;
        let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes())).expect("Base64 is a header");
        let connection =
            parts.extensions.remove().ok_or_else(|| no("this connection cannot become a WebSocket"))?;
        Ok(Self { accept, connection })
    }
}

fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(token))
}

impl Upgrade {
    /// The answer to the request, and what becomes of its connection once the answer is out.
    pub fn accept(self) -> (Response, impl Future<Output = Option<Socket>> + Send) {
        let headers = [
            (header::CONNECTION, HeaderValue::from_static("Upgrade")),
            (header::UPGRADE, HeaderValue::from_static("websocket")),
            (header::SEC_WEBSOCKET_ACCEPT, self.accept),
        ];
        let socket = async move {
            let connection = timeout(UPGRADE, self.connection).await.ok()?.ok()?;
            Some(Socket::new(connection).await)
        };
        ((StatusCode::SWITCHING_PROTOCOLS, headers).into_response(), socket)
    }
}

/// What came from the client.
#[derive(Debug)]
pub enum Received {
    /// A text frame.
    Text(Utf8Bytes),
    /// A ping or pong: it is there.
    Alive,
    /// Something that ends the connection.
    Bad(Closing),
    /// It closed the connection, or the connection broke.
    Gone,
}

/// The connection does not take anything any more.
#[derive(Debug)]
pub struct Gone;

/// An open WebSocket.
pub struct Socket {
    stream: WebSocketStream<TokioIo<Upgraded>>,
    broken: bool,
}

impl Socket {
    async fn new(connection: Upgraded) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .write_buffer_size(WRITE_BUFFER)
            .max_frame_size(Some(LARGEST_FRAME))
            .max_message_size(Some(LARGEST_FRAME));
        let io = TokioIo::new(connection);
        Self { stream: WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await, broken: false }
    }

    /// The next thing that comes. Dropped before it is there, nothing is lost.
    pub async fn receive(&mut self) -> Received {
        let error = match self.stream.next().await {
            Some(Ok(Message::Text(text))) => return Received::Text(text),
            Some(Ok(Message::Binary(_))) => return Received::Bad(Closing::Binary),
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => return Received::Alive,
            Some(Ok(Message::Close(_))) | None => return Received::Gone,
            Some(Err(error)) => error,
        };
        self.broken = true;
        match error {
            Error::Capacity(_) => Received::Bad(Closing::TooLarge),
            Error::Utf8(_) => Received::Bad(Closing::NotUtf8),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Received::Gone,
            Error::Protocol(_) => Received::Bad(Closing::Protocol),
            _ => Received::Gone,
        }
    }

    /// Sends a frame, and all that were put before it.
    pub async fn send(&mut self, frame: Utf8Bytes) -> Result<(), Gone> {
        self.stream.send(Message::Text(frame)).await.map_err(|_| Gone)
    }

    /// Puts a frame to those that go out together.
    pub async fn put(&mut self, frame: Utf8Bytes) -> Result<(), Gone> {
        self.stream.feed(Message::Text(frame)).await.map_err(|_| Gone)
    }

    /// Sends what was put.
    pub async fn flush(&mut self) -> Result<(), Gone> {
        self.stream.flush().await.map_err(|_| Gone)
    }

    /// Asks the client whether it is there.
    pub async fn ping(&mut self) -> Result<(), Gone> {
        self.stream.send(Message::Ping(bytes::Bytes::new())).await.map_err(|_| Gone)
    }

    /// Ends the connection and says why. Waits a moment for the client to take note.
    pub async fn close(mut self, why: Closing) {
        let frame = CloseFrame { code: why.code().into(), reason: Utf8Bytes::from_static(why.reason()) };
        let farewell = async {
            self.stream.send(Message::Close(Some(frame))).await.map_err(|_| Gone)?;
            if self.broken {
                read_off(self.stream.into_inner()).await;
            } else {
                self.end().await;
            }
            Ok::<_, Gone>(())
        };
        // A client that does not answer is left to itself.
        timeout(FAREWELL, farewell).await.ok();
    }

    /// Answers the client's close.
    pub async fn end(mut self) {
        let rest = async { while let Some(Ok(_)) = self.stream.next().await {} };
        timeout(FAREWELL, rest).await.ok();
    }
}

/// Reads what the client had sent before it knew: closing a connection with bytes unread resets it.
async fn read_off(mut connection: TokioIo<Upgraded>) {
    // Whether it can be read to its end does not matter: it is over.
    connection.shutdown().await.ok();
    tokio::io::copy(&mut connection.take(MOST_LEFT_OVER), &mut tokio::io::sink()).await.ok();
}
