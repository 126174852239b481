//! Which refusals of a certificate are worth a warning: the first of an instance in a minute. A proxy whose token has
//! gone asks again and again, and must not fill the log; nor can one that makes up tokens, since there is room for so
//! many instances only and the rest share one place.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const EVERY: Duration = Duration::from_mins(1);
const MOST: usize = 1024;

/// When each instance was last warned of, by a hash of what it says of itself.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<u64, Instant>>);

impl Refusals {
    /// Whether to warn now of who asks for this workload with this token.
    pub(super) fn warns(&self, workload: &str, token: &str, now: Instant) -> bool {
        let mut warned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hasher = DefaultHasher::new();
        (workload, token).hash(&mut hasher);
        let mut key = hasher.finish();
        if warned.len() >= MOST && !warned.contains_key(&key) {
            warned.retain(|_, at| now.saturating_duration_since(*at) < EVERY);
            key = if warned.len() >= MOST { 0 } else { key };
        }
        let due = warned.get(&key).is_none_or(|at| now.saturating_duration_since(*at) >= EVERY);
        if due {
            warned.insert(key, now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_instance_is_warned_of_once_a_minute() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let after = |secs| start + Duration::from_secs(secs);
        assert!(refusals.warns("shop/order", "a", after(0)));
        assert!(refusals.warns("shop/order", "b", after(1)), "another instance");
        assert!(!refusals.warns("shop/order", "a", after(59)));
        assert!(refusals.warns("shop/order", "a", after(60)));
        assert!(!refusals.warns("shop/order", "a", after(119)));
    }

    #[test]
    fn made_up_tokens_are_neither_all_warned_of_nor_all_kept() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let warned = (0..5_000).filter(|n| refusals.warns("x", &n.to_string(), start)).count();
        assert_eq!((warned, refusals.0.lock().unwrap().len()), (MOST + 1, MOST + 1));
        assert!(refusals.warns("shop/order", "a", start + EVERY), "there is room again");
    }
}
