//! Counts how often something happens against a [`Rate`].

use tokio::time::Instant;

use crate::limits::Rate;

/// A bucket of allowances, refilled as time passes.
#[derive(Debug)]
pub(crate) struct Meter {
    rate: Rate,
    left: u32,
    since: Option<Instant>,
}

impl Meter {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, left: rate.burst, since: None }
    }

    /// Takes one allowance; false where none is left.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let seconds = now.saturating_duration_since(since).as_secs();
        if seconds > 0 {
            let more = u32::try_from(seconds).unwrap_or(u32::MAX).saturating_mul(self.rate.per_second);
            self.left = self.left.saturating_add(more).min(self.rate.burst);
            self.since = Some(now);
        }
        let taken = self.left > 0;
        self.left = self.left.saturating_sub(1);
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_allowed_and_then_so_many_per_second() {
        let mut meter = Meter::new(Rate { burst: 3, per_second: 1 });
        let start = Instant::now();
        let taken = (0..5).filter(|_| meter.take(start)).count();
        assert_eq!(taken, 3);
        let later = start + Duration::from_secs(2);
        assert_eq!((0..5).filter(|_| meter.take(later)).count(), 2);
    }
}
