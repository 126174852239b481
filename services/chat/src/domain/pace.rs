//! How fast something may come: a token bucket. Reads no clock.

use std::time::Duration;

use tokio::time::Instant;

/// A rate and what may come at once.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Per second.
    pub rate: u32,
    /// At once, after a rest.
    pub burst: u32,
}

impl Pace {
    /// The time between two that come evenly.
    pub fn interval(self) -> Duration {
        Duration::from_secs(1) / self.rate
    }
}

/// How much of a pace is left.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    pace: Pace,
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub fn new(pace: Pace, now: Instant) -> Self {
        Self { pace, tokens: f64::from(pace.burst), at: now }
    }

    /// Takes one, or says after what time there will be one.
    pub fn take(&mut self, now: Instant) -> Result<(), Duration> {
        self.fill(now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            Ok(())
        } else {
            Err(Duration::from_secs_f64((1.0 - self.tokens) / f64::from(self.pace.rate)))
        }
    }

    /// Whether nothing was taken for so long that a new bucket would be the same.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.tokens >= f64::from(self.pace.burst)
    }

    fn fill(&mut self, now: Instant) {
        let came = now.saturating_duration_since(self.at).as_secs_f64() * f64::from(self.pace.rate);
        self.tokens = (self.tokens + came).min(f64::from(self.pace.burst));
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Pace { rate: 5, burst: 3 }, start);
        for (after_ms, expect) in [
            (0, None),
            (0, None),
            (0, None),
            (0, Some(200)),
            (100, Some(100)),
            (200, None),
            (200, Some(200)),
            (10_000, None),
            (10_000, None),
            (10_000, None),
            (10_000, Some(200)),
            (9_000, Some(200)), // an earlier time gives nothing back
        ] {
            let got = bucket.take(start + Duration::from_millis(after_ms)).err();
            assert_eq!(got.map(|wait| wait.as_millis()), expect, "{after_ms} ms");
        }
        assert!(!bucket.is_full(start + Duration::from_millis(10_100)));
        assert!(bucket.is_full(start + Duration::from_millis(10_600)));
    }
}
