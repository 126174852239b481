//! Bytes both ways between two connections, half-closes passed on, counted and logged at the end.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::time::Instant;
use tracing::debug;

use super::stream::Stream;
use super::worker::Worker;
use crate::cx::ConnCx;
use crate::reject::Reject;
use crate::telemetry::clock::now;
use crate::telemetry::metrics::{InFlight, PeerMetrics};
use crate::telemetry::{Connection, Direction};

const BUFFER: usize = 16 * 1024;

/// A raw connection, from accept to close.
#[derive(Debug)]
pub struct Raw {
    direction: Direction,
    conn: Arc<ConnCx>,
    metrics: Arc<PeerMetrics>,
    _open: InFlight,
    started: Instant,
    received: u64,
    sent: u64,
    /// Destination or port name.
    pub destination: Option<Arc<str>>,
    /// Where it goes.
    pub endpoint: Option<SocketAddr>,
    /// Authorization rule that allowed it.
    pub rule: Option<Arc<str>>,
}

impl Raw {
    /// Begins to count a connection.
    pub fn new(direction: Direction, conn: &Arc<ConnCx>, metrics: &Arc<PeerMetrics>) -> Self {
        Self {
            direction,
            conn: Arc::clone(conn),
            metrics: Arc::clone(metrics),
            _open: metrics.tcp().opened(),
            started: Instant::now(),
            received: 0,
            sent: 0,
            destination: None,
            endpoint: None,
            rule: None,
        }
    }

    /// Logs the connection.
    pub fn close(self, worker: &Rc<Worker>, result: Result<(), Reject>) {
        worker.shared.telemetry.closed(Connection {
            direction: self.direction,
            conn: self.conn,
            destination: self.destination,
            endpoint: self.endpoint,
            rule: self.rule,
            reject: result.err(),
            received: self.received,
            sent: self.sent,
            duration: Instant::now().saturating_duration_since(self.started),
            ended: now(),
        });
    }
}

/// Copies until both sides have closed. A side that breaks ends both.
pub async fn copy(raw: &mut Raw, mut client: Stream, mut upstream: Stream) {
    match copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER).await {
        Ok((received, sent)) => {
            raw.received = received;
            raw.sent = sent;
            raw.metrics.tcp().received(received);
            raw.metrics.tcp().sent(sent);
        }
        Err(error) => debug!(%error, "raw connection broke"),
    }
}
