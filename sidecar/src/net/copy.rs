//! A raw connection from accept to close: its bytes both ways, half-closes passed on, counted while it lives and logged
//! at the end.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::pump::{Bytes, pump};
use super::stream::Stream;
use super::worker::Worker;
use crate::cx::ConnCx;
use crate::reject::Reject;
use crate::telemetry::clock::now;
use crate::telemetry::metrics::{InFlight, PeerMetrics};
use crate::telemetry::{Connection, Direction};

/// A raw connection, from accept to close.
#[derive(Debug)]
pub struct Raw {
    direction: Direction,
    conn: Arc<ConnCx>,
    metrics: Arc<PeerMetrics>,
    _open: InFlight,
    started: Instant,
    bytes: Bytes,
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
            bytes: Bytes::default(),
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
            received: self.bytes.received,
            sent: self.bytes.sent,
            duration: Instant::now().saturating_duration_since(self.started),
            ended: now(),
        });
    }
}

/// Copies until both sides have closed, or nothing has gone either way for `idle`. A side that breaks ends both.
pub async fn copy(raw: &mut Raw, client: Stream, upstream: Stream, idle: Option<Duration>) {
    let tcp = raw.metrics.tcp();
    raw.bytes = pump(client, upstream, idle, |new| {
        tcp.received(new.received);
        tcp.sent(new.sent);
    })
    .await;
}
