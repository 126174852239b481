//! The retry budget of one destination: retries may be a share of the requests of the last ten seconds plus a floor, so
//! that retries never multiply the load on a service that is already failing. Lives as long as the destination does,
//! whatever becomes of its policy.

use tokio::time::Instant;
use weft_api::v1;

use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Seconds looked back at.
const WINDOW: usize = 10;

/// Counts requests and retries, one slot per second.
#[derive(Debug)]
pub struct Budget {
    percent: AtomicU32,
    min_per_second: AtomicU32,
    base: Instant,
    requests: [Slot; WINDOW],
    retries: [Slot; WINDOW],
}

/// The second it is about in the upper half, the count in the lower.
#[derive(Debug, Default)]
struct Slot(AtomicU64);

impl Budget {
    /// An empty budget. Without a policy it allows nothing, as there is nothing to retry.
    pub fn new(config: Option<&v1::Retries>, now: Instant) -> Self {
        let budget = Self {
            percent: AtomicU32::new(0),
            min_per_second: AtomicU32::new(0),
            base: now,
            requests: Default::default(),
            retries: Default::default(),
        };
        budget.update(config);
        budget
    }

    /// Takes over a new policy; what was counted stays.
    pub fn update(&self, config: Option<&v1::Retries>) {
        self.percent.store(config.map_or(0, |c| c.budget_percent), Ordering::Relaxed);
        self.min_per_second.store(config.map_or(0, |c| c.budget_min_per_second), Ordering::Relaxed);
    }

    /// Counts a request (not a retry).
    pub fn request(&self, now: Instant) {
        let second = self.second(now);
        Slot::of(&self.requests, second).add(second);
    }

    /// Takes one retry, if there is one left. Threads that ask in the same instant may each get the last one.
    pub fn retry(&self, now: Instant) -> bool {
        let second = self.second(now);
        let allowed = sum(&self.requests, second) * u64::from(self.percent.load(Ordering::Relaxed)) / 100
            + u64::from(self.min_per_second.load(Ordering::Relaxed)) * WINDOW as u64;
        let allow = sum(&self.retries, second) < allowed;
        if allow {
            Slot::of(&self.retries, second).add(second);
        }
        allow
    }

    /// Seconds since the base, from 1, so that an empty slot is of no second.
    fn second(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.base).as_secs() + WINDOW as u64
    }
}

impl Slot {
    fn of(slots: &[Self; WINDOW], second: u64) -> &Self {
        let index = usize::try_from(second % WINDOW as u64).unwrap_or_default();
        &slots[index]
    }

    fn add(&self, second: u64) {
        let stamp = second << 32;
        let count = |old: u64| if old & !0xffff_ffff == stamp { old.saturating_add(1) } else { stamp | 1 };
        let mut old = self.0.load(Ordering::Relaxed);
        while let Err(seen) =
            self.0.compare_exchange_weak(old, count(old), Ordering::Relaxed, Ordering::Relaxed)
        {
            old = seen;
        }
    }

    fn count_since(&self, second: u64) -> u64 {
        let value = self.0.load(Ordering::Relaxed);
        if value >> 32 > second { value & 0xffff_ffff } else { 0 }
    }
}

fn sum(slots: &[Slot; WINDOW], second: u64) -> u64 {
    slots.iter().map(|slot| slot.count_since(second.saturating_sub(WINDOW as u64))).sum()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn budget(percent: u32, floor: u32) -> (Budget, Instant) {
        let config =
            v1::Retries { budget_percent: percent, budget_min_per_second: floor, ..Default::default() };
        let now = Instant::now();
        (Budget::new(Some(&config), now), now)
    }

    fn retries(budget: &Budget, now: Instant) -> usize {
        (0..10_000).take_while(|_| budget.retry(now)).count()
    }

    #[test]
    fn retries_are_a_share_of_requests_plus_a_floor() {
        let (budget, now) = budget(20, 1);
        (0..100).for_each(|_| budget.request(now));
        assert_eq!(retries(&budget, now), 20 + 10);
    }

    #[test]
    fn requests_and_retries_are_forgotten_after_ten_seconds() {
        let (budget, now) = budget(50, 0);
        (0..10).for_each(|_| budget.request(now));
        assert_eq!(retries(&budget, now + Duration::from_secs(9)), 5);
        assert_eq!(retries(&budget, now + Duration::from_secs(10)), 0, "the requests are too old");
        let later = now + Duration::from_secs(19);
        (0..10).for_each(|_| budget.request(later));
        assert_eq!(retries(&budget, later), 5, "so are the first retries");
    }

    #[test]
    fn without_a_policy_nothing_is_allowed() {
        let now = Instant::now();
        let budget = Budget::new(None, now);
        budget.request(now);
        assert!(!budget.retry(now));
    }
}
