//! Outlier detection: an endpoint that fails several times in a row is left out for a while, as long as enough others
//! remain. The state stands beside the endpoint ([`Ejection`]); the balancer reads it, this policy writes it.
//! Overflow never counts: a busy endpoint is not a broken one.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;
use weft_api::v1;

use super::outcome::{Health, Outcome};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// When an endpoint of this destination is left out.
#[derive(Debug)]
pub struct Policy {
    consecutive_failures: u32,
    eject: Duration,
    max_ejected_percent: u32,
    /// Held from counting who is left out to leaving one more out: endpoints that fail together must not each find
    /// that there is room. Taken only when an endpoint has failed often enough.
    turn: Mutex<()>,
}

/// What is known about one endpoint.
#[derive(Debug)]
pub struct Ejection {
    base: Instant,
    failures: AtomicU32,
    /// Milliseconds after the base; 0: not ejected.
    until: AtomicU64,
}

/// The endpoints of the destination: how many, and how many of them are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peers {
    /// All of them.
    pub total: usize,
    /// Left out now.
    pub ejected: usize,
}

impl Policy {
    /// Compiles the wire form; none where the rule is off.
    pub fn new(config: Option<&v1::Outlier>) -> Option<Self> {
        let config = config.filter(|c| c.consecutive_failures > 0 && c.eject_ms > 0)?;
        Some(Self {
            consecutive_failures: config.consecutive_failures,
            eject: Duration::from_millis(config.eject_ms),
            max_ejected_percent: config.max_ejected_percent.min(100),
            turn: Mutex::new(()),
        })
    }

    /// Counts an outcome; `peers` is asked only when the endpoint has failed often enough. Returns for how long the
    /// endpoint is left out, when that begins now.
    pub fn record(
        &self,
        endpoint: &Ejection,
        outcome: Outcome,
        now: Instant,
        peers: impl FnOnce() -> Peers,
    ) -> Option<Duration> {
        match outcome.health() {
            Health::Good => endpoint.failures.store(0, Ordering::Relaxed),
            Health::Bad
                if endpoint.failures.fetch_add(1, Ordering::Relaxed) + 1 >= self.consecutive_failures =>
            {
                return self.eject(endpoint, peers, now);
            }
            Health::Bad | Health::Unknown => {}
        }
        None
    }

    fn eject(&self, endpoint: &Ejection, peers: impl FnOnce() -> Peers, now: Instant) -> Option<Duration> {
        // It guards no value that could be half written.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let peers = peers();
        let allowed = peers.total * self.max_ejected_percent as usize / 100;
        if endpoint.is_ejected(now) || peers.ejected >= allowed {
            return None;
        }
        endpoint.failures.store(0, Ordering::Relaxed);
        endpoint.until.store(endpoint.millis(now + self.eject), Ordering::Relaxed);
        Some(self.eject)
    }
}

impl Ejection {
    /// An endpoint nothing is known about.
    pub fn new(now: Instant) -> Self {
        Self { base: now, failures: AtomicU32::new(0), until: AtomicU64::new(0) }
    }

    /// Whether the endpoint is left out now.
    pub fn is_ejected(&self, now: Instant) -> bool {
        let until = self.until.load(Ordering::Relaxed);
        until != 0 && self.millis(now) < until
    }

    /// For how much longer it is left out.
    pub fn remaining(&self, now: Instant) -> Option<Duration> {
        let until = self.until.load(Ordering::Relaxed);
        until.checked_sub(self.millis(now)).filter(|ms| *ms > 0).map(Duration::from_millis)
    }

    /// How long ago the last ejection was over; none where there was none, or it is not.
    pub fn over_for(&self, now: Instant) -> Option<Duration> {
        let until = Some(self.until.load(Ordering::Relaxed)).filter(|until| *until != 0);
        self.millis(now).checked_sub(until?).map(Duration::from_millis)
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.base).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EJECT: Duration = Duration::from_secs(30);

    fn policy() -> Policy {
        let wire = v1::Outlier {
            consecutive_failures: 5,
            eject_ms: 30_000,
            max_ejected_percent: 50,
            ..Default::default()
        };
        Policy::new(Some(&wire)).unwrap()
    }

    fn record(endpoint: &Ejection, outcome: Outcome, now: Instant, total: usize, ejected: usize) -> bool {
        policy().record(endpoint, outcome, now, || Peers { total, ejected }).is_some()
    }

    #[test]
    fn five_failures_in_a_row_eject_for_thirty_seconds() {
        let now = Instant::now();
        let endpoint = Ejection::new(now);
        for _ in 0..4 {
            assert!(!record(&endpoint, Outcome::Reset, now, 4, 0));
        }
        assert!(record(&endpoint, Outcome::Reset, now, 4, 0));
        assert!(endpoint.is_ejected(now + EJECT - Duration::from_millis(1)));
        assert_eq!(endpoint.remaining(now), Some(EJECT));
        assert!(!endpoint.is_ejected(now + EJECT));
        assert_eq!((endpoint.remaining(now + EJECT), endpoint.over_for(now)), (None, None));
        assert_eq!(endpoint.over_for(now + EJECT + EJECT), Some(EJECT));
    }

    #[test]
    fn a_success_in_between_starts_the_count_again() {
        let now = Instant::now();
        let endpoint = Ejection::new(now);
        for _ in 0..4 {
            assert!(!record(&endpoint, Outcome::Timeout, now, 4, 0));
        }
        assert!(!record(&endpoint, Outcome::Status(http::StatusCode::OK), now, 4, 0));
        assert!(!record(&endpoint, Outcome::Timeout, now, 4, 0));
        assert_eq!(endpoint.failures(), 1);
    }

    #[test]
    fn overflow_never_ejects() {
        let now = Instant::now();
        let endpoint = Ejection::new(now);
        assert!((0..100).all(|_| !record(&endpoint, Outcome::Overflow, now, 4, 0)));
        assert_eq!(endpoint.failures(), 0);
    }

    #[test]
    fn no_more_than_the_allowed_share_is_left_out() {
        let now = Instant::now();
        let check = |total, ejected| {
            let endpoint = Ejection::new(now);
            (0..5).any(|_| record(&endpoint, Outcome::ConnectFailed, now, total, ejected))
        };
        assert!(check(2, 0));
        assert!(!check(2, 1));
        assert!(!check(1, 0), "the only endpoint stays");
        assert!(check(5, 1));
        assert!(!check(5, 2));
    }
}
