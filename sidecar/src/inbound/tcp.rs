//! The inbound path of a raw connection: allowed as a whole or not at all, then bytes both ways.

use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Peer, checks};
use crate::net::copy::{Raw, copy};
use crate::net::stream::Stream;
use crate::net::worker::Worker;
use crate::reject::{Reason, Reject};
use crate::telemetry::Direction;
use crate::upstream::connect::CONNECT_TIMEOUT;

/// What a refused client may still be sending, and for how long that is read.
const MAX_UNREAD: u64 = 64 << 10;
const LINGER: Duration = Duration::from_millis(500);

/// Serves one raw connection of a peer.
pub async fn handle(worker: &Rc<Worker>, stream: Stream, peer: &Peer) {
    let mut raw = Raw::new(Direction::Inbound, &peer.conn, &peer.metrics);
    raw.destination = Some(peer.port.name.clone());
    raw.endpoint = Some(peer.port.app);
    let result = steps(worker, &mut raw, stream, peer).await;
    raw.close(worker, result);
}

async fn steps(worker: &Rc<Worker>, raw: &mut Raw, stream: Stream, peer: &Peer) -> Result<(), Reject> {
    if let Err(reject) = checks::peer(peer) {
        tracing::info!(peer = %peer.conn.peer, port = peer.conn.port, reason = reject.reason.label(), "plain text refused: this port asks for mutual TLS");
        end(stream).await;
        return Err(reject);
    }
    if let Some(inbound) = &worker.shared.config.load_full().inbound {
        checks::connection(worker, inbound, &peer.conn)?;
    }
    let app = connect(peer).await?;
    copy(raw, stream, Stream::Plain(app), Some(worker.shared.settings.client_idle_timeout)).await;
    Ok(())
}

/// Closes so that the client sees the end, not a reset: what it has sent must have been read.
async fn end(mut stream: Stream) {
    let ended = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut (&mut stream).take(MAX_UNREAD), &mut tokio::io::sink()).await
    };
    if let Ok(Err(error)) = timeout(LINGER, ended).await {
        tracing::debug!(%error, "refused connection ended");
    }
}

async fn connect(peer: &Peer) -> Result<TcpStream, Reject> {
    let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(peer.port.app)).await;
    let stream = connected
        .map_err(|_| Reject::new(Reason::AppUnavailable).because("connecting took too long"))?
        .map_err(|error| Reject::new(Reason::AppUnavailable).because(error.to_string()))?;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY");
    }
    Ok(stream)
}
