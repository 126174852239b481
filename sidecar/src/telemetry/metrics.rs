//! Prometheus metrics of the proxy. Everything a request touches is resolved beforehand into [`PeerMetrics`], one per
//! peer and direction, so that a request costs a few atomic additions and no look-up.
//!
//! Label values come from enums, from the configuration (destinations) and from verified identities (peers); what a
//! client can choose freely, like paths, hosts and header values, is never a label. Beyond [`MAX_PEERS`] peers the rest
//! share one called `other`.

mod families;
mod peer;

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use prometheus::{IntCounter, IntGauge, Registry, TextEncoder};
use tokio::sync::Notify;

use crate::reject::Reason;
use crate::telemetry::metrics::families::{Families, lazily};
use crate::telemetry::{Direction, process};

pub use crate::telemetry::metrics::peer::{InFlight, Mirrored, PeerMetrics, TcpMetrics, Totals};

/// Peers with series of their own, over all directions.
pub const MAX_PEERS: usize = 1000;
/// What the peers beyond that are called.
pub const OTHER: &str = "other";

/// All metrics of one proxy, with a registry of their own.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    families: Arc<Families>,
    peers: Mutex<HashMap<Direction, Peers>>,
    rejections: [Box<[OnceLock<IntCounter>]>; 3],
    certificate_not_after: AtomicI64,
    /// What did not fit into a queue.
    pub dropped: Dropped,
    /// The connection to the operator and what came over it.
    pub config: ConfigMetrics,
    /// Told whenever a breaker has changed its state, so that the operator hears of it at once.
    pub breaker_moved: Arc<Notify>,
}

/// Handles by name.
type Peers = HashMap<Box<str>, Arc<PeerMetrics>>;

/// Telemetry that was dropped because its queue was full.
#[derive(Debug)]
pub struct Dropped {
    /// Lines of the access log.
    pub log_lines: IntCounter,
    /// Finished spans.
    pub spans: IntCounter,
}

/// Configuration updates.
#[derive(Debug)]
pub struct ConfigMetrics {
    /// Updates applied; also the number of the snapshot in use.
    pub updates: IntCounter,
    /// Updates refused whole.
    pub rejected: IntCounter,
    /// 1 while the stream to the operator is up.
    pub connected: IntGauge,
}

/// Why a TLS handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFailure {
    /// The peer showed no certificate where one is required.
    NoCertificate,
    /// The certificate is not from one of our roots.
    UnknownAuthority,
    /// It has expired or is not valid yet.
    Expired,
    /// It names no workload.
    NoIdentity,
    /// It names another workload than expected.
    WrongIdentity,
    /// It asks for a server name that is nobody's.
    UnknownName,
    /// The peer refused ours.
    RefusedByPeer,
    /// It took too long.
    Timeout,
    /// Too many were under way.
    TooMany,
    /// The connection was closed meanwhile.
    Closed,
    /// Anything else that breaks the protocol.
    Protocol,
}

impl TlsFailure {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::NoCertificate,
        Self::UnknownAuthority,
        Self::Expired,
        Self::NoIdentity,
        Self::WrongIdentity,
        Self::UnknownName,
        Self::RefusedByPeer,
        Self::Timeout,
        Self::TooMany,
        Self::Closed,
        Self::Protocol,
    ];

    /// Value of the metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NoCertificate => "no-certificate",
            Self::UnknownAuthority => "unknown-authority",
            Self::Expired => "expired",
            Self::NoIdentity => "no-identity",
            Self::WrongIdentity => "wrong-identity",
            Self::UnknownName => "unknown-name",
            Self::RefusedByPeer => "refused-by-peer",
            Self::Timeout => "timeout",
            Self::TooMany => "too-many",
            Self::Closed => "closed",
            Self::Protocol => "protocol",
        }
    }

    /// What the error of a handshake (tokio-rustls) was about.
    pub fn of(error: &std::io::Error) -> Self {
        use rustls::{CertificateError, Error};
        let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
            return if error.kind() == std::io::ErrorKind::TimedOut { Self::Timeout } else { Self::Closed };
        };
        match tls {
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            ) => Self::Expired,
            Error::InvalidCertificate(CertificateError::NotValidForName) => Self::NoIdentity,
            Error::InvalidCertificate(_) => Self::UnknownAuthority,
            Error::AlertReceived(_) => Self::RefusedByPeer,
            _ => Self::Protocol,
        }
    }
}

impl Metrics {
    /// Metrics of this workload (`<namespace>/<service>`), which every series names.
    pub fn new(workload: &str) -> Self {
        let (registry, families) = families::register(workload);
        let (dropped, config) = families.singles();
        let slots = || Reason::ALL.iter().map(|_| OnceLock::new()).collect();
        Self {
            registry,
            families: Arc::new(families),
            peers: Mutex::default(),
            rejections: [slots(), slots(), slots()],
            certificate_not_after: AtomicI64::new(0),
            dropped,
            config,
            breaker_moved: Arc::default(),
        }
    }

    /// The handles for one peer, made at its first use: outbound a destination (`shop/product:http`), inbound the
    /// peer's service (`shop/order`, or `unknown` without identity). Look it up once per connection or snapshot, not
    /// per request.
    pub fn peer(&self, direction: Direction, name: &str) -> Arc<PeerMetrics> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let full = peers.values().map(HashMap::len).sum::<usize>() >= MAX_PEERS;
        let known = peers.entry(direction).or_default();
        if let Some(peer) = known.get(name) {
            return Arc::clone(peer);
        }
        let name = if full { OTHER } else { name };
        let moved = &self.breaker_moved;
        let new = || Arc::new(PeerMetrics::new((&self.families, moved), direction, name));
        Arc::clone(known.entry(name.into()).or_insert_with(new))
    }

    /// Removes the series of destinations that are no longer configured, so that memory follows the configuration.
    /// Names that are not those of destinations (`other`, `unknown`) stay.
    pub fn retain_destinations(&self, known: impl Fn(&str) -> bool) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let keep = |name: &str| !name.contains('/') || known(name);
        for direction in [Direction::Outbound, Direction::Gateway] {
            let of_direction = peers.entry(direction).or_default();
            of_direction.extract_if(|name, _| !keep(name)).for_each(|(_, peer)| peer.remove_series());
        }
    }

    /// Every peer met so far.
    pub fn peers(&self) -> Vec<Arc<PeerMetrics>> {
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.values().flat_map(HashMap::values).cloned().collect()
    }

    /// Counts a refusal.
    pub fn rejected(&self, direction: Direction, reason: Reason) {
        let slots = &self.rejections[direction as usize];
        if let Some(slot) = slots.get(reason as usize) {
            let labels = [direction.label(), reason.label()];
            lazily(slot, || self.families.rejections.with_label_values(&labels)).inc();
        }
    }

    /// Counts what an authorization policy in audit mode would have refused.
    pub fn would_deny(&self, direction: Direction) {
        self.families.would_deny.with_label_values(&[direction.label()]).inc();
    }

    /// Counts a failed handshake, as server (`Inbound`, `Gateway`) or as client (`Outbound`).
    pub fn handshake_failed(&self, direction: Direction, failure: TlsFailure) {
        self.families.handshake_failures.with_label_values(&[direction.label(), failure.label()]).inc();
    }

    /// Counts a decision of a global rate limit: by Redis, or by `failOpen` where Redis did not answer in time.
    pub fn global_limit(&self, result: GlobalLimit) {
        self.families.global_limits.with_label_values(&[result.label()]).inc();
    }

    /// Notes a new certificate and when it ends (seconds since the Unix epoch).
    pub fn certificate_renewed(&self, not_after: i64) {
        self.certificate_not_after.store(not_after, Ordering::Relaxed);
        self.families.renewals.with_label_values(&["renewed"]).inc();
    }

    /// Shows whether the certificate is about to end although it should have been renewed long ago.
    pub fn certificate_expiring(&self, expiring: bool) {
        self.families.certificate_expiring.set(i64::from(expiring));
    }

    /// Counts an attempt to get a certificate that failed.
    pub fn renewal_failed(&self) {
        self.families.renewals.with_label_values(&["failed"]).inc();
    }

    /// Requests in flight and raw connections open, over all peers.
    pub fn active(&self) -> (u64, u64) {
        self.peers().iter().map(|peer| peer.active()).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// The text that Prometheus scrapes.
    pub fn encode(&self, now_unix: i64) -> String {
        let not_after = self.certificate_not_after.load(Ordering::Relaxed);
        if not_after != 0 {
            self.families.certificate_expiry.set(not_after - now_unix);
        }
        self.families.set_process(process::usage());
        let families = self.registry.gather();
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }
}

/// How a global rate limit was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GlobalLimit {
    /// Redis let it through.
    Allowed,
    /// Redis refused it.
    Limited,
    /// Redis did not answer; let through.
    FailedOpen,
    /// Redis did not answer; refused.
    FailedClosed,
}

impl GlobalLimit {
    /// Value of the metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Limited => "limited",
            Self::FailedOpen => "failed-open",
            Self::FailedClosed => "failed-closed",
        }
    }
}

#[cfg(test)]
mod tests;
