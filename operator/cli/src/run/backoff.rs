//! How long to wait before a process that died is started again. Pure: how long it lived is an argument.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(500);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(10);
/// A process that lived this long starts again with the first wait.
const HEALTHY: Duration = Duration::from_secs(30);

/// Doubles the wait with every death in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    deaths: u32,
}

impl Backoff {
    /// The wait after a death of a process that lived for `lived`.
    pub(crate) fn after(&mut self, lived: Duration) -> Duration {
        if lived >= HEALTHY {
            self.deaths = 0;
        }
        let wait = FIRST.saturating_mul(2_u32.saturating_pow(self.deaths)).min(LONGEST);
        self.deaths = self.deaths.saturating_add(1);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(lives: &[u64]) -> Vec<f64> {
        let mut backoff = Backoff::default();
        lives.iter().map(|lived| backoff.after(Duration::from_secs(*lived)).as_secs_f64()).collect()
    }

    #[test]
    fn waits_double_up_to_ten_seconds() {
        assert_eq!(seconds(&[0, 1, 0, 0, 0, 0, 0]), [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]);
    }

    #[test]
    fn thirty_healthy_seconds_forget_earlier_deaths() {
        assert_eq!(seconds(&[0, 0, 0, 30, 0]), [0.5, 1.0, 2.0, 0.5, 1.0]);
    }

    #[test]
    fn endless_deaths_do_not_overflow() {
        let mut backoff = Backoff { deaths: u32::MAX };
        assert_eq!(backoff.after(Duration::ZERO), LONGEST);
    }
}
