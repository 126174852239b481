//! A WebSocket client that reads what it is told to wait for.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _},
};

use crate::town::User;

/// Longest to wait for anything.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A connection to a room.
pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<TcpStream>,
    /// The first frame.
    pub(crate) welcome: Value,
    /// Messages until everything missed had come.
    pub(crate) missed: Vec<Value>,
    /// Ids of all messages that came, since it was last asked for them.
    heard: Vec<i64>,
    /// What makes its names of messages its own.
    prefix: String,
    sent: u64,
}

impl Client {
    /// Opens a connection and reads up to the point from which on it is live. The error is the status of the answer.
    pub(crate) async fn open(
        address: &str,
        path: &str,
        user: &User,
        headers: &[(&'static str, String)],
    ) -> Result<Self, StatusCode> {
        let socket = connect(address, path, user, headers).await?;
        let prefix = uuid::Uuid::new_v4().simple().to_string();
        let mut client =
            Self { socket, welcome: Value::Null, missed: Vec::new(), heard: Vec::new(), prefix, sent: 0 };
        client.welcome = client.next().await;
        assert_eq!(client.welcome["type"], "welcome", "{}", client.welcome);
        loop {
            let frame = client.next().await;
            match frame["type"].as_str() {
                Some("message") => client.missed.push(frame),
                Some("live") => return Ok(client),
                _ => {}
            }
        }
    }

    /// Sends a frame.
    pub(crate) async fn send(&mut self, frame: &Value) {
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
    }

    /// Sends a message and does not wait.
    pub(crate) async fn say(&mut self, text: &str) -> String {
        self.sent += 1;
        let client_id = format!("{}-{}", self.prefix, self.sent);
        self.send(&json!({"type": "send", "client_id": client_id, "text": text})).await;
        client_id
    }

    /// Sends a message and waits until it is accepted; answers with its id.
    pub(crate) async fn tell(&mut self, text: &str) -> i64 {
        let client_id = self.say(text).await;
        let accepted = self.until("the message is accepted", |frame| {
            assert_ne!(frame["type"], "error", "{frame}");
            frame["type"] == "accepted" && frame["client_id"] == client_id
        });
        accepted.await["id"].as_i64().unwrap()
    }

    /// The next frame.
    pub(crate) async fn next(&mut self) -> Value {
        loop {
            let message =
                timeout(SOON, self.socket.next()).await.expect("a frame comes").expect("it is open");
            match message.unwrap() {
                Message::Text(text) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    self.heard.extend(message_id(&frame));
                    return frame;
                }
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// The first frame for which this holds.
    pub(crate) async fn until(&mut self, what: &str, mut holds: impl FnMut(&Value) -> bool) -> Value {
        let deadline = Instant::now() + SOON;
        loop {
            let frame = timeout_at(deadline, self.next()).await;
            let frame = frame.unwrap_or_else(|_| panic!("it never came to pass that {what}"));
            if holds(&frame) {
                return frame;
            }
        }
    }

    /// The next frame of this type.
    pub(crate) async fn of(&mut self, kind: &str) -> Value {
        self.until(kind, |frame| frame["type"] == kind).await
    }

    /// The ids of all messages that came since it was last asked for them, up to and with this one.
    pub(crate) async fn ids_to(&mut self, last: i64) -> Vec<i64> {
        while self.heard.last() != Some(&last) {
            self.of("message").await;
        }
        std::mem::take(&mut self.heard)
    }

    /// Reads to the end: the close code and reason; nothing if the connection broke.
    pub(crate) async fn end(&mut self) -> Option<(u16, String)> {
        loop {
            match timeout(SOON, self.socket.next()).await.expect("the connection ends") {
                Some(Ok(Message::Close(frame))) => {
                    return frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }
}

/// Opens a connection and reads nothing.
pub(crate) async fn connect(
    address: &str,
    path: &str,
    user: &User,
    headers: &[(&'static str, String)],
) -> Result<WebSocketStream<TcpStream>, StatusCode> {
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    let own = [("x-user-id", user.id.to_string()), ("x-user-name", user.name.to_owned())];
    for (name, value) in own.iter().chain(headers) {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(address).await.unwrap();
    match client_async(request, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => Err(response.status()),
        Err(error) => panic!("{error}"),
    }
}

/// The id of a message, where the frame is one.
pub(crate) fn message_id(frame: &Value) -> Option<i64> {
    frame["id"].as_i64().filter(|_| frame["type"] == "message")
}
