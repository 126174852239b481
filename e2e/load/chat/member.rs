//! One client of the swarm: its connection, what it hears, and what it says. One that is cut off connects again and asks
//! for what it missed, and says again what it was not told to be stored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::{SinkExt as _, StreamExt as _};
use http::Uri;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};
use tokio_util::sync::CancellationToken;

use super::Heard;
use crate::people::Person;
use crate::record::Outcome;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

const CONNECT: Duration = Duration::from_secs(20);
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// So much that is to be said may wait for the connection.
const QUEUE: usize = 100;

/// One client.
pub(crate) struct Member {
    url: String,
    person: Arc<Person>,
    heard: Arc<Heard>,
    socket: Socket,
    last: Arc<AtomicU64>,
    waiting: Arc<AtomicU64>,
    say: mpsc::Sender<Duration>,
    said: mpsc::Receiver<Duration>,
    /// What is not known to be stored, by what we call it.
    unsure: BTreeMap<String, String>,
    number: u64,
}

/// What the others see of a client.
pub(crate) struct Line {
    say: mpsc::Sender<Duration>,
    last: Arc<AtomicU64>,
    waiting: Arc<AtomicU64>,
}

impl Line {
    /// Has the client say something that was due then; `false` when it cannot.
    pub(crate) fn say(&self, due: Duration) -> bool {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let sent = self.say.try_send(due).is_ok();
        if !sent {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        sent
    }

    /// The last message that it heard.
    pub(crate) fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// What it is to say, or has said and does not know to be stored.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// What is looked at of what comes.
#[derive(Deserialize)]
struct Frame<'a> {
    r#type: &'a str,
    id: Option<u64>,
    #[serde(borrow)]
    text: Option<&'a str>,
    #[serde(borrow)]
    client_id: Option<&'a str>,
}

impl Member {
    /// Enters a room, at its end.
    pub(crate) async fn enter(
        base: String,
        room: String,
        person: Arc<Person>,
        heard: Arc<Heard>,
    ) -> Result<Self> {
        let url = format!("{}/chat/rooms/{room}/ws", base.replacen("http://", "ws://", 1));
        let socket = connect(&format!("{url}?after=0"), &person).await?;
        let (say, said) = mpsc::channel(QUEUE);
        Ok(Self {
            url,
            person,
            heard,
            socket,
            last: Arc::default(),
            waiting: Arc::default(),
            say,
            said,
            unsure: BTreeMap::new(),
            number: 0,
        })
    }

    /// What the others see of it.
    pub(crate) fn line(&self) -> Line {
        Line { say: self.say.clone(), last: self.last.clone(), waiting: self.waiting.clone() }
    }

    /// Hears and says until told to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if stop.run_until_cancelled(self.talk()).await.is_none() {
                break;
            }
            self.heard.reconnects.fetch_add(1, Ordering::Relaxed);
            if stop.run_until_cancelled(Box::pin(self.connect_again())).await.is_none() {
                break;
            }
        }
        self.socket.close(None).await.ok();
    }

    /// Until the connection ends.
    async fn talk(&mut self) {
        let again: Vec<String> = self.unsure.values().cloned().collect();
        for frame in again {
            if self.socket.send(Message::text(frame)).await.is_err() {
                return;
            }
        }
        loop {
            let open = tokio::select! {
                Some(due) = self.said.recv() => self.say(due).await,
                frame = self.socket.next() => match frame {
                    Some(Ok(Message::Text(text))) => self.hear(&text),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => false,
                    Some(Ok(_)) => true,
                },
            };
            if !open {
                return;
            }
        }
    }

    async fn say(&mut self, due: Duration) -> bool {
        self.number += 1;
        let name = format!("{}-{}", self.person.id.simple(), self.number);
        let frame =
            json!({"type": "send", "client_id": name, "text": due.as_micros().to_string()}).to_string();
        self.unsure.insert(name, frame.clone());
        self.socket.send(Message::text(frame)).await.is_ok()
    }

    fn hear(&mut self, text: &str) -> bool {
        let Ok(frame) = serde_json::from_str::<Frame<'_>>(text) else { return true };
        match frame.r#type {
            "message" => self.hear_message(&frame),
            "accepted" => {
                self.heard.accepted.fetch_add(1, Ordering::Relaxed);
                self.sure(frame.client_id);
            }
            // Not stored, and said again by a client that means it; a load counts it.
            "error" => {
                self.heard.refused.fetch_add(1, Ordering::Relaxed);
                self.sure(frame.client_id);
            }
            "reconnect" => return false,
            _ => {}
        }
        true
    }

    fn sure(&mut self, name: Option<&str>) {
        if name.is_some_and(|name| self.unsure.remove(name).is_some()) {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn hear_message(&mut self, frame: &Frame<'_>) {
        let (Some(id), Some(text)) = (frame.id, frame.text) else { return };
        let last = self.last.swap(id, Ordering::Relaxed);
        if id != last + 1 {
            self.heard.disorder.fetch_add(1, Ordering::Relaxed);
        }
        let due = Duration::from_micros(text.parse().unwrap_or_default());
        self.heard.record.note(Outcome::Done, self.heard.start.elapsed().saturating_sub(due));
    }

    /// Until it has worked.
    async fn connect_again(&mut self) {
        loop {
            let url = format!("{}?after={}", self.url, self.last.load(Ordering::Relaxed));
            sleep(AGAIN_AFTER).await;
            if let Ok(socket) = connect(&url, &self.person).await {
                self.socket = socket;
                return;
            }
        }
    }
}

async fn connect(url: &str, person: &Person) -> Result<Socket> {
    let uri: Uri = url.parse().context("the address of a room")?;
    let mut request = uri.into_client_request().context("the address of a room")?;
    request.headers_mut().extend(person.headers.clone());
    let connecting = connect_async_with_config(request, None, true);
    let connected = timeout(CONNECT, connecting).await.with_context(|| format!("{url}: no answer"))?;
    let (socket, _) = connected.map_err(refused).with_context(|| url.to_owned())?;
    Ok(socket)
}

/// What a refusal says is in its body.
fn refused(error: tungstenite::Error) -> anyhow::Error {
    match error {
        tungstenite::Error::Http(answer) => {
            let body = answer.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
            anyhow::anyhow!("{} {body}", answer.status())
        }
        error => error.into(),
    }
}
