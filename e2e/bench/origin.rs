//! What all paths lead to, beside the nginx that answers HTTP/1.1 (`rivals/nginx.rs`): an HTTP/2 origin, a WebSocket
//! origin and a sink for traces, on one thread of this process.

mod http2;
mod traces;

use std::net::SocketAddr;

use anyhow::{Context, Result};
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Where they listen. They end when this is dropped.
pub(crate) struct Origin {
    pub(crate) http2: SocketAddr,
    pub(crate) websocket: SocketAddr,
    pub(crate) traces: SocketAddr,
    _running: oneshot::Sender<()>,
}

impl Origin {
    /// Starts the thread.
    pub(crate) async fn start() -> Result<Self> {
        let (running, ended) = oneshot::channel();
        let (listening, addresses) = oneshot::channel();
        std::thread::Builder::new().name("origin".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let listeners = [bind().await?, bind().await?, bind().await?];
                let [http2, websocket, traces] = &listeners;
                let bound = [http2.local_addr()?, websocket.local_addr()?, traces.local_addr()?];
                // Whoever asked may be gone.
                listening.send(bound).ok();
                let [http2, websocket, traces] = listeners;
                tokio::select! {
                    done = accept(http2, http2::serve) => done,
                    done = accept(websocket, echo) => done,
                    done = traces::collect(traces) => done,
                    _ = ended => anyhow::Ok(()),
                }
            })
        })?;
        let [http2, websocket, traces] = addresses.await.context("the origin did not start")?;
        Ok(Self { http2, websocket, traces, _running: running })
    }
}

async fn bind() -> Result<TcpListener> {
    Ok(TcpListener::bind("127.0.0.1:0").await?)
}

async fn accept<F>(listener: TcpListener, serve: fn(TcpStream) -> F) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let stream = accepted?.0;
                stream.set_nodelay(true)?;
                connections.spawn(serve(stream));
            }
            // How a connection ended is the client's to judge.
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn echo(stream: TcpStream) -> Result<()> {
    let mut socket = tokio_tungstenite::accept_async(stream).await?;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_text() {
            socket.send(message).await?;
        }
    }
    Ok(())
}
