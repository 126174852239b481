//! The load of one endpoint: attempts in flight and the peak-sensitive moving average of its latency (Peak EWMA, as in
//! Finagle). Rises to a higher latency at once, falls slowly. Readers and writers race without locks: a lost update
//! costs one sample.

use std::time::Duration;

use tokio::time::Instant;

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// In this time without samples the average falls to 1/e.
const DECAY_NANOS: f64 = 10e9;
/// Cost of an endpoint that has not answered yet but has been asked: dearer than any that has.
const UNPROVEN_NANOS: f64 = 1e12;
/// No failure is taken for faster than this, none for slower than that.
const FAILURE_NANOS: (f64, f64) = (1e6, 10e9);

#[derive(Debug)]
pub(super) struct Load {
    inflight: AtomicU32,
    base: Instant,
    /// Average in nanoseconds, the bits of an `f64`; 0: no sample yet.
    average: AtomicU64,
    /// When it was updated, in nanoseconds after the base.
    updated: AtomicU64,
}

impl Load {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            inflight: AtomicU32::new(0),
            base: now,
            average: AtomicU64::new(0),
            updated: AtomicU64::new(0),
        }
    }

    pub(super) fn begin(&self) {
        self.inflight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self) {
        self.inflight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn inflight(&self) -> u32 {
        self.inflight.load(Ordering::Relaxed)
    }

    /// What one more request would wait for.
    pub(super) fn cost(&self, now: Instant) -> f64 {
        let inflight = self.inflight();
        let average = f64::from_bits(self.average.load(Ordering::Relaxed));
        // A new endpoint gets one request at once, and the next when that one is answered.
        if average == 0.0 {
            return if inflight == 0 { 0.0 } else { UNPROVEN_NANOS * f64::from(inflight) };
        }
        average * self.decay(now) * f64::from(inflight + 1)
    }

    pub(super) fn latency(&self, now: Instant) -> Duration {
        let average = f64::from_bits(self.average.load(Ordering::Relaxed));
        Duration::try_from_secs_f64(average * self.decay(now) / 1e9).unwrap_or_default()
    }

    /// Takes in the latency of an answer.
    pub(super) fn observe(&self, latency: Duration, now: Instant) {
        let sample = latency.as_secs_f64() * 1e9;
        let average = f64::from_bits(self.average.load(Ordering::Relaxed));
        let new = if sample > average {
            sample
        } else {
            let old = self.decay(now);
            average * old + sample * (1.0 - old)
        };
        self.store(new, now);
    }

    /// Takes in a failure: twice the average so far, so that repeated failures push the endpoint away.
    pub(super) fn observe_failure(&self, latency: Duration, now: Instant) {
        let average = f64::from_bits(self.average.load(Ordering::Relaxed)) * self.decay(now);
        let (least, most) = FAILURE_NANOS;
        self.store((average * 2.0).max(latency.as_secs_f64() * 1e9).clamp(least, most), now);
    }

    fn store(&self, average: f64, now: Instant) {
        // 0 means "no sample", so a sample never is.
        self.average.store(average.max(1.0).to_bits(), Ordering::Relaxed);
        self.updated.store(self.nanos(now), Ordering::Relaxed);
    }

    #[expect(clippy::cast_precision_loss, reason = "a span of nanoseconds, needed to three digits")]
    fn decay(&self, now: Instant) -> f64 {
        let since = self.nanos(now).saturating_sub(self.updated.load(Ordering::Relaxed));
        (-(since as f64) / DECAY_NANOS).exp()
    }

    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.base).as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_peak_counts_at_once_and_fades_slowly() {
        let start = Instant::now();
        let load = Load::new(start);
        load.observe(MS, start);
        load.observe(100 * MS, start);
        assert_eq!(load.latency(start), 100 * MS);
        load.observe(MS, start + MS);
        assert!(load.latency(start + MS) > 99 * MS);
        let later = start + Duration::from_secs(10);
        load.observe(MS, later);
        assert!(load.latency(later) < 40 * MS);
    }

    #[test]
    fn an_idle_endpoint_is_tried_again_after_a_while() {
        let start = Instant::now();
        let load = Load::new(start);
        load.observe(Duration::from_secs(1), start);
        assert!(load.cost(start + Duration::from_mins(1)) < load.cost(start) / 100.0);
    }

    #[test]
    fn a_new_endpoint_gets_one_request_until_it_has_answered() {
        let start = Instant::now();
        let (new, old) = (Load::new(start), Load::new(start));
        old.observe(Duration::from_secs(5), start);
        assert!(new.cost(start) < old.cost(start));
        new.begin();
        assert!(new.cost(start) > old.cost(start));
    }

    #[test]
    fn failing_fast_is_not_being_fast() {
        let start = Instant::now();
        let (failing, slow) = (Load::new(start), Load::new(start));
        slow.observe(20 * MS, start);
        for _ in 0..6 {
            failing.observe_failure(Duration::from_micros(50), start);
        }
        assert!(failing.cost(start) > slow.cost(start));
        (0..100).for_each(|_| failing.observe_failure(MS, start));
        assert_eq!(failing.latency(start), Duration::from_secs(10), "the penalty is bounded");
    }
}
