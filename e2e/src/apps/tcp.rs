//! TCP applications: one echoes, one speaks first (as the servers of mail and of many databases do).

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::listen;

/// What a server that speaks first says.
pub const GREETING: &[u8] = b"220 ready\r\n";

/// A running TCP application.
pub struct TcpApp {
    /// Where it listens.
    pub addr: SocketAddr,
    _tasks: JoinSet<()>,
}

impl TcpApp {
    /// Sends back what it gets, and ends its side when the client ended its own.
    pub async fn echo() -> Self {
        Self::start(false).await
    }

    /// As [`TcpApp::echo`], but says [`GREETING`] before it has read anything.
    pub async fn server_first() -> Self {
        Self::start(true).await
    }

    async fn start(greets: bool) -> Self {
        let (addr, tasks) = listen(move |stream| converse(stream, greets)).await;
        Self { addr, _tasks: tasks }
    }
}

async fn converse(mut stream: TcpStream, greets: bool) {
    if greets && stream.write_all(GREETING).await.is_err() {
        return;
    }
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read) = stream.read(&mut buffer).await {
        if read == 0 {
            // Half-closed: the farewell shows that this direction is still open.
            drop(stream.write_all(b"bye").await);
            return;
        }
        if stream.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
