//! Requests and failures of a time that moves along, in ten slots: a request counts for at most the window and at least
//! nine tenths of it. Constant memory at any rate.

use std::time::Duration;

use tokio::time::Instant;

const SLOTS: usize = 10;

/// Counts of the last while.
#[derive(Debug)]
pub(super) struct Window {
    slot: Duration,
    /// Start of slot 0: when something was counted first.
    base: Option<Instant>,
    /// The newest slot.
    newest: u64,
    slots: [(u32, u32); SLOTS],
}

impl Window {
    pub(super) fn new(length: Duration) -> Self {
        let slot = (length / 10).max(Duration::from_millis(1));
        Self { slot, base: None, newest: 0, slots: Default::default() }
    }

    /// Counts one request.
    pub(super) fn add(&mut self, failed: bool, now: Instant) {
        self.advance(now);
        let (requests, failures) = &mut self.slots[index(self.newest)];
        *requests = requests.saturating_add(1);
        *failures = failures.saturating_add(u32::from(failed));
    }

    /// Requests and failures in the window.
    pub(super) fn counts(&mut self, now: Instant) -> (u32, u32) {
        self.advance(now);
        let add = |(a, b): (u32, u32), (c, d): &(u32, u32)| (a.saturating_add(*c), b.saturating_add(*d));
        self.slots.iter().fold((0, 0), add)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.base = None;
        self.newest = 0;
        self.slots = Default::default();
    }

    /// Forgets what has become too old. Time that goes back (a caller read it before another) counts as the newest.
    fn advance(&mut self, now: Instant) {
        let base = *self.base.get_or_insert(now);
        let passed = now.saturating_duration_since(base).as_nanos() / self.slot.as_nanos();
        let at = u64::try_from(passed).unwrap_or(u64::MAX).max(self.newest);
        for old in (self.newest..at).take(SLOTS) {
            self.slots[index(old + 1)] = (0, 0);
        }
        self.newest = at;
    }
}

fn index(slot: u64) -> usize {
    usize::try_from(slot % SLOTS as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_is_forgotten_after_the_window() {
        let start = Instant::now();
        let mut window = Window::new(Duration::from_secs(10));
        window.add(true, start);
        window.add(false, start + Duration::from_secs(5));
        assert_eq!(window.counts(start + Duration::from_millis(9_999)), (2, 1));
        assert_eq!(window.counts(start + Duration::from_secs(10)), (1, 0));
        assert_eq!(window.counts(start + Duration::from_hours(1)), (0, 0));
    }

    proptest! {
        #[test]
        fn counts_equal_those_of_a_list(steps in prop::collection::vec((0u64..4_000, any::<bool>()), 1..60)) {
            let start = Instant::now();
            let mut window = Window::new(Duration::from_secs(10));
            let mut list: Vec<(u64, bool)> = Vec::new();
            let mut at = 0;
            for (step, failed) in steps {
                at += if list.is_empty() { 0 } else { step };
                list.push((at / 1000, failed));
                window.add(failed, start + Duration::from_millis(at));
                let fresh = || list.iter().filter(|(slot, _)| slot + SLOTS as u64 > at / 1000);
                let naive = (fresh().count(), fresh().filter(|(_, failed)| *failed).count());
                let (requests, failures) = window.counts(start + Duration::from_millis(at));
                prop_assert_eq!((requests as usize, failures as usize), naive);
            }
        }
    }
}
