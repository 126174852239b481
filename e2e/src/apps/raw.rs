//! An HTTP/1.1 application that keeps every byte it is sent, so that a test sees what a proxy forwards and not what a
//! server makes of it. Each connection gets one answer, which says that it is the last.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::listen;
use crate::eventually;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
const ANSWER_TO_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n";

/// A running application.
pub struct RawApp {
    /// Where it listens.
    pub addr: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

struct State {
    connections: Mutex<Vec<Connection>>,
    answer: Mutex<Option<Vec<u8>>>,
    /// Whether it answers before it has the request's body.
    early: AtomicBool,
}

#[derive(Clone, Default)]
struct Connection {
    received: Vec<u8>,
    closed: bool,
}

impl RawApp {
    /// Starts on a free port of loopback.
    pub async fn start() -> Self {
        let state = Arc::new(State {
            connections: Mutex::default(),
            answer: Mutex::default(),
            early: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        let (addr, tasks) = listen(move |stream| serve(stream, Arc::clone(&shared))).await;
        Self { addr, state, _tasks: tasks }
    }

    /// Answers every request with these bytes from now on and closes the connection after them.
    pub fn answer_with(&self, bytes: &[u8]) {
        *self.state.answer.lock().unwrap() = Some(bytes.to_vec());
    }

    /// As [`RawApp::answer_with`], as soon as there is a head.
    pub fn answer_early(&self, bytes: &[u8]) {
        self.answer_with(bytes);
        self.state.early.store(true, Ordering::SeqCst);
    }

    /// Waits until this many requests have come and their connections are closed, and forgets them.
    pub async fn served(&self, count: usize) {
        eventually("requests come and end", async || {
            let mut connections = self.state.connections.lock().unwrap();
            let all_closed = connections.iter().all(|connection| connection.closed);
            let asked = connections.iter().filter(|connection| !connection.received.is_empty()).count();
            (all_closed && asked >= count).then(|| connections.clear())
        })
        .await;
    }

    /// What has been received, connection by connection, once all connections are closed; forgets it.
    pub async fn take(&self) -> Vec<String> {
        eventually("the proxy closes its connections", async || {
            let mut connections = self.state.connections.lock().unwrap();
            let all_closed = connections.iter().all(|connection| connection.closed);
            all_closed.then(|| std::mem::take(&mut *connections))
        })
        .await
        .into_iter()
        .map(|connection| String::from_utf8_lossy(&connection.received).into_owned())
        .filter(|received| !received.is_empty())
        .collect()
    }
}

async fn serve(mut stream: TcpStream, state: Arc<State>) {
    let index = {
        let mut connections = state.connections.lock().unwrap();
        connections.push(Connection::default());
        connections.len() - 1
    };
    drop(converse(&mut stream, &state, index).await);
    if let Some(connection) = state.connections.lock().unwrap().get_mut(index) {
        connection.closed = true;
    }
}

async fn converse(stream: &mut TcpStream, state: &State, index: usize) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    let mut answered = false;
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let to_head = {
            let mut connections = state.connections.lock().unwrap();
            let received = &mut connections[index].received;
            received.extend_from_slice(&buffer[..read]);
            let early = state.early.load(Ordering::SeqCst);
            let enough =
                if early { received.windows(4).any(|end| end == b"\r\n\r\n") } else { is_whole(received) };
            enough.then(|| received.starts_with(b"HEAD "))
        };
        let Some(to_head) = to_head.filter(|_| !answered) else { continue };
        answered = true;
        let told = state.answer.lock().unwrap().clone();
        let closes = told.is_some();
        let usual = if to_head { ANSWER_TO_HEAD } else { ANSWER };
        stream.write_all(told.as_deref().unwrap_or(usual)).await?;
        if closes {
            stream.shutdown().await?;
        }
    }
}

/// Whether a whole request is there, by the one framing that a proxy may choose.
fn is_whole(received: &[u8]) -> bool {
    let Some(end) = received.windows(4).position(|end| end == b"\r\n\r\n") else { return false };
    let (head, body) = received.split_at(end);
    let body = &body[4..];
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let value = |name: &str| head.split("\r\n").find_map(|line| line.strip_prefix(name)).map(str::trim);
    match (value("transfer-encoding:"), value("content-length:")) {
        (Some(_), _) => {
            // Trailers may come between the last chunk and the end.
            let last = &body[body.len().saturating_sub(1024)..];
            let ends = body.starts_with(b"0\r\n") || last.windows(5).any(|end| end == b"\r\n0\r\n");
            ends && body.ends_with(b"\r\n\r\n")
        }
        (None, Some(length)) => body.len() >= length.parse().unwrap(),
        (None, None) => true,
    }
}
