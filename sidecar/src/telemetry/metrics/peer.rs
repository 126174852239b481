//! The series of one peer in one direction, resolved once. The series of a status, of retries, of raw connections and
//! of a breaker come into being with the first event, so that a quiet peer costs a histogram and a gauge.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use http::StatusCode;
use prometheus::{Histogram, IntCounter, IntGauge};
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::policy::breaker::{State, Transition};
use crate::telemetry::metrics::families::{Families, lazily};
use crate::telemetry::{Answer, Direction};

/// Statuses with a series of their own, ascending; the rest count under their class.
const CODES: [u16; 32] = [
    101, 200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 408, 409, 412, 413,
    415, 422, 425, 429, 431, 499, 500, 501, 502, 503, 504,
];
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];
/// gRPC codes 0 to 16; a higher number is counted as 2, UNKNOWN, as gRPC asks of clients.
const GRPC_CODES: [&str; 17] =
    ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"];
/// gRPC codes that are the server's fault: unknown, deadline exceeded, unimplemented, internal, unavailable, data loss.
const GRPC_FAILURES: [u8; 6] = [2, 4, 12, 13, 14, 15];

/// Counters of one peer in one direction.
#[derive(Debug)]
pub struct PeerMetrics {
    direction: Direction,
    name: Box<str>,
    families: Arc<Families>,
    moved: Arc<Notify>,
    codes: [OnceLock<IntCounter>; CODES.len() + CLASSES.len()],
    grpc: Box<[OnceLock<IntCounter>; GRPC_CODES.len()]>,
    duration: Histogram,
    active: IntGauge,
    failures: AtomicU64,
    retries: OnceLock<IntCounter>,
    retries_over_budget: OnceLock<IntCounter>,
    hedges: OnceLock<IntCounter>,
    stale: OnceLock<IntCounter>,
    tcp: OnceLock<TcpMetrics>,
    breaker: OnceLock<IntGauge>,
    ejected: OnceLock<IntGauge>,
}

/// Sums since the start, for the report to the operator.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Requests finished.
    pub requests: u64,
    /// Of these, failed by fault of server or mesh: 5xx, or a gRPC code that says so.
    pub failures: u64,
    /// Sum of their durations.
    pub seconds: f64,
}

impl Totals {
    /// What came on top of an earlier reading.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(before.requests),
            failures: self.failures.saturating_sub(before.failures),
            seconds: (self.seconds - before.seconds).max(0.0),
        }
    }

    /// Sum of the durations in whole milliseconds.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive; `as` saturates")]
    pub fn latency_ms(self) -> u64 {
        (self.seconds * 1000.0).round() as u64
    }
}

/// What became of a copy for a mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mirrored {
    /// It was answered.
    Sent,
    /// Too many were under way, or its body was too large or not whole.
    Dropped,
    /// It could not be sent, or was not answered.
    Failed,
}

impl Mirrored {
    const ALL: [Self; 3] = [Self::Sent, Self::Dropped, Self::Failed];

    /// Value of the metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        }
    }
}

/// A request in flight; dropping it ends it.
#[derive(Debug)]
pub struct InFlight(IntGauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Counters of raw connections.
#[derive(Clone, Debug)]
pub struct TcpMetrics {
    opened: IntCounter,
    open: IntGauge,
    received: IntCounter,
    sent: IntCounter,
}

impl TcpMetrics {
    /// Counts a connection; it is open until the guard is dropped.
    pub fn opened(&self) -> InFlight {
        self.opened.inc();
        self.open.inc();
        InFlight(self.open.clone())
    }

    /// Counts bytes from the side that connected.
    pub fn received(&self, bytes: u64) {
        self.received.inc_by(bytes);
    }

    /// Counts bytes to the side that connected.
    pub fn sent(&self, bytes: u64) {
        self.sent.inc_by(bytes);
    }
}

impl PeerMetrics {
    pub(super) fn new(
        (families, moved): (&Arc<Families>, &Arc<Notify>),
        direction: Direction,
        name: &str,
    ) -> Self {
        let labels = [direction.label(), name];
        Self {
            direction,
            name: name.into(),
            families: Arc::clone(families),
            moved: Arc::clone(moved),
            codes: [const { OnceLock::new() }; CODES.len() + CLASSES.len()],
            grpc: Box::new([const { OnceLock::new() }; GRPC_CODES.len()]),
            duration: families.duration.with_label_values(&labels),
            active: families.active.with_label_values(&labels),
            failures: AtomicU64::new(0),
            retries: OnceLock::new(),
            retries_over_budget: OnceLock::new(),
            hedges: OnceLock::new(),
            stale: OnceLock::new(),
            tcp: OnceLock::new(),
            breaker: OnceLock::new(),
            ejected: OnceLock::new(),
        }
    }

    /// Which way.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// Destination or peer service.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A request has begun; it is in flight until the guard is dropped.
    pub fn started(&self) -> InFlight {
        self.active.inc();
        InFlight(self.active.clone())
    }

    /// A request has ended.
    pub fn finished(&self, answer: &Answer) {
        let slot = code_slot(answer.status);
        let labels = [self.direction.label(), &self.name, code_label(slot, &answer.status)];
        lazily(&self.codes[slot], || self.families.requests.with_label_values(&labels)).inc();
        let mut failed = answer.status.is_server_error();
        if let Some(code) = answer.grpc_status {
            let code = if usize::from(code) < GRPC_CODES.len() { code } else { 2 };
            let labels = [self.direction.label(), &self.name, GRPC_CODES[usize::from(code)]];
            lazily(&self.grpc[usize::from(code)], || self.families.grpc.with_label_values(&labels)).inc();
            failed |= GRPC_FAILURES.contains(&code);
        }
        if failed {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        self.duration.observe(answer.duration.as_secs_f64());
    }

    /// A further attempt is made.
    pub fn retried(&self) {
        lazily(&self.retries, || self.families.retries.with_label_values(&self.labels())).inc();
    }

    /// A retry was due, but the budget is used up.
    pub fn retry_over_budget(&self) {
        let family = &self.families.retries_over_budget;
        lazily(&self.retries_over_budget, || family.with_label_values(&self.labels())).inc();
    }

    /// An attempt is made beside one that is slow.
    pub fn hedged(&self) {
        lazily(&self.hedges, || self.families.hedges.with_label_values(&self.labels())).inc();
    }

    /// A copy of a request has been made, or not. Rare, so its series is looked up.
    pub fn mirrored(&self, result: Mirrored) {
        let labels = [self.direction.label(), &self.name, result.label()];
        self.families.mirrors.with_label_values(&labels).inc();
    }

    /// An answer was served from the stale cache.
    pub fn served_stale(&self) {
        lazily(&self.stale, || self.families.stale.with_label_values(&self.labels())).inc();
    }

    /// Counters of raw connections with this peer.
    pub fn tcp(&self) -> &TcpMetrics {
        let families = &self.families;
        let flow = |flow| families.tcp_bytes.with_label_values(&[self.direction.label(), &self.name, flow]);
        lazily(&self.tcp, || TcpMetrics {
            opened: families.tcp_opened.with_label_values(&self.labels()),
            open: families.tcp_open.with_label_values(&self.labels()),
            received: flow("received"),
            sent: flow("sent"),
        })
    }

    /// Shows the breaker's state.
    pub fn breaker_state(&self, state: State) {
        let family = &self.families.breaker_state;
        lazily(&self.breaker, || family.with_label_values(&[&*self.name])).set(match state {
            State::Closed => 0,
            State::Open => 1,
            State::HalfOpen => 2,
        });
    }

    /// Logs and counts a transition, shows the new state and has it reported to the operator.
    pub fn breaker_moved(&self, transition: Transition) {
        let Transition { from, to } = transition;
        let (destination, from) = (&*self.name, breaker_label(from));
        if to == State::Open {
            warn!(destination, from, to = breaker_label(to), "circuit breaker has opened");
        } else {
            info!(destination, from, to = breaker_label(to), "circuit breaker has moved");
        }
        self.breaker_state(to);
        self.families.breaker_transitions.with_label_values(&[destination, breaker_label(to)]).inc();
        self.moved.notify_one();
    }

    /// Shows how many endpoints are ejected.
    pub fn ejected(&self, endpoints: usize) {
        let count = i64::try_from(endpoints).unwrap_or(i64::MAX);
        lazily(&self.ejected, || self.families.ejected.with_label_values(&[&*self.name])).set(count);
    }

    /// Sums since the start.
    pub fn totals(&self) -> Totals {
        Totals {
            requests: self.duration.get_sample_count(),
            failures: self.failures.load(Ordering::Relaxed),
            seconds: self.duration.get_sample_sum(),
        }
    }

    /// Requests in flight and raw connections open.
    pub(super) fn active(&self) -> (u64, u64) {
        let open = self.tcp.get().map_or(0, |tcp| tcp.open.get());
        (u64::try_from(self.active.get()).unwrap_or(0), u64::try_from(open).unwrap_or(0))
    }

    /// Takes all series of this peer out of the families; those that never came into being are passed over.
    pub(super) fn remove_series(&self) {
        let families = &self.families;
        let labels = self.labels();
        let codes = CODES.map(|code| code.to_string());
        for code in codes.iter().map(String::as_str).chain(CLASSES) {
            drop(families.requests.remove_label_values(&[labels[0], labels[1], code]));
        }
        for code in GRPC_CODES {
            drop(families.grpc.remove_label_values(&[labels[0], labels[1], code]));
        }
        for result in Mirrored::ALL {
            drop(families.mirrors.remove_label_values(&[labels[0], labels[1], result.label()]));
        }
        for flow in ["received", "sent"] {
            drop(families.tcp_bytes.remove_label_values(&[labels[0], labels[1], flow]));
        }
        drop(families.duration.remove_label_values(&labels));
        for family in [
            &families.retries,
            &families.retries_over_budget,
            &families.hedges,
            &families.stale,
            &families.tcp_opened,
        ] {
            drop(family.remove_label_values(&labels));
        }
        for family in [&families.active, &families.tcp_open] {
            drop(family.remove_label_values(&labels));
        }
        for family in [&families.breaker_state, &families.ejected] {
            drop(family.remove_label_values(&[labels[1]]));
        }
        for to in [State::Closed, State::Open, State::HalfOpen] {
            drop(families.breaker_transitions.remove_label_values(&[labels[1], breaker_label(to)]));
        }
    }

    fn labels(&self) -> [&str; 2] {
        [self.direction.label(), &self.name]
    }
}

fn code_slot(status: StatusCode) -> usize {
    let code = status.as_u16();
    let class = usize::from(code / 100).clamp(1, CLASSES.len()) - 1;
    CODES.binary_search(&code).unwrap_or(CODES.len() + class)
}

fn code_label(slot: usize, status: &StatusCode) -> &str {
    slot.checked_sub(CODES.len()).map_or_else(|| status.as_str(), |class| CLASSES[class])
}

const fn breaker_label(state: State) -> &'static str {
    match state {
        State::Closed => "closed",
        State::Open => "open",
        State::HalfOpen => "half-open",
    }
}
