//! What the proxy tells about the traffic: metrics, traces, the access log. One call at the end of each request or
//! connection, [`Telemetry::finished`] or [`Telemetry::closed`], feeds all three; it never waits. What is written or
//! sent is written and sent by tasks of the control plane (`run`), behind bounded queues that count what they drop.

pub mod access_log;
pub mod clock;
pub mod edge;
pub mod export;
pub mod metrics;
pub mod process;
pub mod tap;
pub mod trace;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode, Version};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::config::snapshot::Snapshot;
use crate::cx::{ConnCx, RequestCx};
use crate::drain::Tasks;
use crate::reject::Reject;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::export::Spans;
use crate::telemetry::metrics::{Metrics, PeerMetrics};
use crate::telemetry::tap::Taps;
use crate::telemetry::trace::TraceContext;

/// Which of the proxy's paths something passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From a peer to the application beside the proxy.
    Inbound,
    /// From the application to a destination.
    Outbound,
    /// From outside the mesh through a gateway to a destination.
    Gateway,
}

impl Direction {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Inbound, Self::Outbound, Self::Gateway];

    /// Value of the metric label and of the log field.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
            Self::Gateway => "gateway",
        }
    }
}

/// How a request ended.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status sent to whoever asked.
    pub status: StatusCode,
    /// `grpc-status` where the answer was gRPC and the trailer was seen.
    pub grpc_status: Option<u8>,
    /// Why the proxy refused it; none when the answer is the upstream's.
    pub reject: Option<Reject>,
    /// From the request's head to the end of the answer.
    pub duration: Duration,
}

/// A finished request, as log and span tell it.
#[derive(Debug)]
pub struct Request {
    /// Path it took.
    pub direction: Direction,
    /// What the steps found out.
    pub cx: RequestCx,
    /// How it ended.
    pub answer: Answer,
    /// When it ended.
    pub ended: SystemTime,
}

/// One attempt of an outbound request, a span of its own below the request's.
#[derive(Debug)]
pub struct Attempt {
    /// Context that was sent upstream, from [`TraceContext::child`].
    pub trace: TraceContext,
    /// Destination, `shop/product:http`.
    pub destination: Arc<str>,
    /// Endpoint that was tried.
    pub endpoint: Option<SocketAddr>,
    /// Which attempt of its request it is, from 1.
    pub number: usize,
    /// Its answer; none when there was none.
    pub status: Option<StatusCode>,
    /// Why there was none; neither, where it was given up: another attempt was faster, or whoever asked has gone.
    pub reject: Option<Reject>,
    /// How long it took.
    pub duration: Duration,
    /// When it ended.
    pub ended: SystemTime,
}

/// A closed raw TCP connection (or an upgraded one), as the log tells it.
#[derive(Debug)]
pub struct Connection {
    /// Path it took.
    pub direction: Direction,
    /// Where it came from.
    pub conn: Arc<ConnCx>,
    /// Destination (outbound) or port name (inbound).
    pub destination: Option<Arc<str>>,
    /// Endpoint it went to.
    pub endpoint: Option<SocketAddr>,
    /// Authorization rule that allowed it.
    pub rule: Option<Arc<str>>,
    /// Why it was refused or cut.
    pub reject: Option<Reject>,
    /// Bytes from the side that connected.
    pub received: u64,
    /// Bytes to the side that connected.
    pub sent: u64,
    /// From accept to close.
    pub duration: Duration,
    /// When it ended.
    pub ended: SystemTime,
}

/// What came instead of a request and was refused by a codec.
#[derive(Debug)]
pub struct Refused<'a> {
    /// The path a request would have taken.
    pub direction: Direction,
    /// Where it came from.
    pub conn: &'a Arc<ConnCx>,
    /// What was spoken.
    pub version: Version,
    /// What it was answered with; none, where its connection was cut.
    pub status: Option<StatusCode>,
    /// Why.
    pub reject: Reject,
}

/// The hot path's end of all telemetry; shared by all threads.
#[derive(Debug)]
pub struct Telemetry {
    /// Counters and gauges.
    pub metrics: Metrics,
    /// Finished spans on their way out.
    pub spans: Spans,
    /// The access log.
    pub log: AccessLog,
    /// Whoever watches live.
    pub taps: Arc<Taps>,
}

/// The slow ends of the queues, to be run by the control plane.
#[must_use = "without it nothing is written or exported"]
pub struct Outlets {
    log: access_log::Outlet,
    spans: export::Outlet,
}

impl Telemetry {
    /// Telemetry of this workload (`<namespace>/<service>`), silent until [`Telemetry::configure`] says otherwise.
    pub fn new(workload: &str) -> (Arc<Self>, Outlets) {
        let metrics = Metrics::new(workload);
        let (log, log_outlet) = access_log::queue(metrics.dropped.log_lines.clone());
        let (spans, span_outlet) = export::queue(workload, metrics.dropped.spans.clone());
        (
            Arc::new(Self { metrics, spans, log, taps: Arc::default() }),
            Outlets { log: log_outlet, spans: span_outlet },
        )
    }

    /// Follows a new configuration: what is logged and sampled, where spans go, which destinations are counted.
    pub fn configure(&self, snapshot: &Snapshot) {
        let proxy = &snapshot.proxy;
        self.log.set_mode(access_log::Mode::from(proxy.access_log));
        self.spans.configure(proxy.otlp_endpoint.as_deref().unwrap_or_default(), proxy.sampling);
        self.metrics.retain_destinations(|name| snapshot.destinations.contains_key(name));
        self.metrics.config.updates.inc();
    }

    /// The trace context of a request that has just come in: the caller's trace continued, or a new one begun.
    pub fn trace(&self, headers: &mut HeaderMap) -> TraceContext {
        trace::begin(headers, self.spans.sampling())
    }

    /// Counts, logs and exports a finished request. Costs some atomic additions where it is neither logged nor traced.
    pub fn finished(&self, direction: Direction, peer: &PeerMetrics, cx: RequestCx, answer: Answer) {
        peer.finished(&answer);
        if let Some(reject) = &answer.reject {
            self.metrics.rejected(direction, reject.reason);
        }
        let logged = self.log.wants(&answer);
        let traced = self.spans.wants(&cx.trace);
        let tapped = self.taps.are_open();
        if !logged && !traced && !tapped {
            return;
        }
        let request = Arc::new(Request { direction, cx, answer, ended: clock::now() });
        if traced {
            self.spans.send(export::Finished::Request(Arc::clone(&request)));
        }
        if tapped {
            self.taps.offer(&request);
        }
        if logged {
            self.log.send(access_log::Entry::Request(request));
        }
    }

    /// Exports one attempt of an outbound request, where its trace is recorded.
    pub fn attempted(&self, attempt: Attempt) {
        if self.spans.wants(&attempt.trace) {
            self.spans.send(export::Finished::Attempt(Box::new(attempt)));
        }
    }

    /// Counts and logs what was no request.
    pub fn refused(&self, refused: Refused<'_>) {
        let Refused { direction, conn, version, status, reject } = refused;
        self.metrics.rejected(direction, reject.reason);
        if self.log.wants_connection(true) {
            let conn = Arc::clone(conn);
            let head = access_log::Head { direction, conn, version, status, reject, ended: clock::now() };
            self.log.send(access_log::Entry::Head(Box::new(head)));
        }
    }

    /// Counts and logs a closed raw connection. Its bytes are counted while they flow (see [`metrics::TcpMetrics`]).
    pub fn closed(&self, connection: Connection) {
        if let Some(reject) = &connection.reject {
            self.metrics.rejected(connection.direction, reject.reason);
        }
        if self.log.wants_connection(connection.reject.is_some()) {
            self.log.send(access_log::Entry::Connection(Box::new(connection)));
        }
    }
}

impl Outlets {
    /// Spawns the tasks that write the log to standard output and export spans. Told to `finish`, which is due once no
    /// request is left, they empty their queues and end.
    pub fn spawn(self, tasks: &Tasks, finish: &CancellationToken) {
        match access_log::stdout() {
            Ok(stdout) => tasks.spawn("access log", self.log.run(stdout, finish.clone())),
            Err(error) => warn!(%error, "standard output cannot be opened: there is no access log"),
        }
        tasks.spawn("spans", self.spans.run(finish.clone()));
    }
}
