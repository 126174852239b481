//! The inbound path of a raw connection: allowed as a whole or not at all, then bytes both ways.

use std::rc::Rc;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Peer, checks};
use crate::net::copy::{Raw, copy};
use crate::net::linger::end;
use crate::net::stream::Stream;
use crate::net::worker::Worker;
use crate::reject::{Reason, Reject};
use crate::telemetry::Direction;
use crate::upstream::connect::CONNECT_TIMEOUT;

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
