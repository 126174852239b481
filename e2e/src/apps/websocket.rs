//! A WebSocket application: echoes every message.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::listen;

/// A running WebSocket application.
pub struct WebSocketApp {
    /// Where it listens.
    pub addr: SocketAddr,
    _tasks: JoinSet<()>,
}

impl WebSocketApp {
    /// Starts on a free port of loopback.
    pub async fn start() -> Self {
        let (addr, tasks) = listen(converse).await;
        Self { addr, _tasks: tasks }
    }
}

async fn converse(stream: TcpStream) {
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
    while let Some(Ok(message)) = socket.next().await {
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            return;
        }
    }
}
