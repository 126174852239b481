//! A breaker for one address: so many failures in a row open it, after a while one call tries again. Pure: the time is
//! an argument.

use std::time::Duration;

use tokio::time::Instant;

/// Whether an address is asked.
#[derive(Debug)]
pub(super) struct Breaker {
    most: u32,
    open_for: Duration,
    failures: u32,
    /// Open, and not asked before this time. When it has come, one call tries and the others wait for as long again.
    open_until: Option<Instant>,
}

impl Breaker {
    pub(super) fn new(most: u32, open_for: Duration) -> Self {
        Self { most, open_for, failures: 0, open_until: None }
    }

    /// Whether a call may be made now.
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        let Some(until) = self.open_until else { return true };
        let trial = now >= until;
        if trial {
            self.open_until = Some(now + self.open_for);
        }
        trial
    }

    /// Notes how a call ended.
    pub(super) fn note(&mut self, failed: bool, now: Instant) {
        self.failures = if failed { self.failures.saturating_add(1) } else { 0 };
        self.open_until = (self.failures >= self.most).then(|| now + self.open_for);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_in_a_row_open_it_and_one_trial_closes_it() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut breaker = Breaker::new(5, Duration::from_mins(1));
        for failed in [true, true, true, true, false, true, true, true, true] {
            assert!(breaker.allows(at(0)));
            breaker.note(failed, at(0));
        }
        assert!(breaker.allows(at(0)), "an answer between them starts the count again");
        breaker.note(true, at(0));
        assert!(!breaker.allows(at(59)));

        assert!(breaker.allows(at(60)), "one tries");
        assert!(!breaker.allows(at(60)), "and only one");
        breaker.note(true, at(61));
        assert!(!breaker.allows(at(120)));
        assert!(breaker.allows(at(121)), "the next trial");
        assert!(breaker.allows(at(181)), "a trial that never ended keeps nobody out for ever");
        breaker.note(false, at(181));
        assert!(breaker.allows(at(181)) && breaker.allows(at(181)));
    }
}
