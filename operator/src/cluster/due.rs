//! Which of many keys is due next, and which are under way: there is one job at a time for a key, and never more than so
//! many at once. Without a clock; no step looks through all keys.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

/// Keys and when each is due: at a time, or at once (none).
#[derive(Debug)]
pub(super) struct Due<K> {
    /// Jobs under way at once.
    most: usize,
    at: BTreeMap<K, Option<Instant>>,
    /// Those due that are not under way.
    waiting: BTreeSet<(Option<Instant>, K)>,
    running: BTreeSet<K>,
}

impl<K: Ord + Clone> Due<K> {
    /// Nothing is due; at most so many jobs at once.
    pub(super) const fn new(most: usize) -> Self {
        Self { most, at: BTreeMap::new(), waiting: BTreeSet::new(), running: BTreeSet::new() }
    }

    /// This is due then; none: at once. What is under way is not disturbed, and comes up again when it has ended.
    pub(super) fn set(&mut self, key: &K, at: Option<Instant>) {
        self.unset(key);
        self.at.insert(key.clone(), at);
        if !self.running.contains(key) {
            self.waiting.insert((at, key.clone()));
        }
    }

    /// This is not due any more.
    pub(super) fn unset(&mut self, key: &K) {
        if let Some(at) = self.at.remove(key) {
            self.waiting.remove(&(at, key.clone()));
        }
    }

    /// Whether this is due, now or at some time.
    pub(super) fn contains(&self, key: &K) -> bool {
        self.at.contains_key(key)
    }

    /// Whether this is under way.
    pub(super) fn is_running(&self, key: &K) -> bool {
        self.running.contains(key)
    }

    /// Takes what is due, as many as may run; each is under way until [`Due::ended`].
    pub(super) fn start(&mut self, now: Instant) -> Vec<K> {
        let mut started = Vec::new();
        while self.running.len() < self.most
            && self.waiting.first().is_some_and(|(at, _)| at.is_none_or(|at| at <= now))
            && let Some((_, key)) = self.waiting.pop_first()
        {
            self.at.remove(&key);
            self.running.insert(key.clone());
            started.push(key);
        }
        started
    }

    /// This is not under way any more.
    pub(super) fn ended(&mut self, key: &K) {
        if self.running.remove(key)
            && let Some(at) = self.at.get(key)
        {
            self.waiting.insert((*at, key.clone()));
        }
    }

    /// A taker that knows nothing begins: nothing is under way, and what is due at some time is due at once.
    pub(super) fn begin(&mut self) {
        self.running.clear();
        self.waiting = self.at.keys().map(|key| (None, key.clone())).collect();
        self.at.values_mut().for_each(|at| *at = None);
    }

    /// The next time at which something is due; none while as much is under way as may be.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let (at, _) = self.waiting.first()?;
        at.filter(|_| self.running.len() < self.most)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_due_first_starts_first_and_no_more_than_may() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut due = Due::new(2);
        for (key, at) in [("c", Some(now)), ("b", None), ("a", None), ("d", Some(later))] {
            due.set(&key, at);
        }
        assert_eq!(due.start(now), ["a", "b"]);
        assert_eq!((due.start(later).len(), due.wake_at()), (0, None), "as much is under way as may be");
        due.ended(&"a");
        assert_eq!(due.wake_at(), Some(now));
        assert_eq!(due.start(now), ["c"]);
        due.ended(&"b");
        assert_eq!((due.start(now).len(), due.wake_at()), (0, Some(later)));
        due.unset(&"d");
        assert_eq!((due.start(later).len(), due.wake_at()), (0, None));
    }

    #[test]
    fn what_becomes_due_while_it_is_under_way_waits_for_its_end() {
        let mut due = Due::new(2);
        due.set(&"a", None);
        assert_eq!(due.start(Instant::now()), ["a"]);
        due.set(&"a", None);
        assert!(due.start(Instant::now()).is_empty() && due.is_running(&"a"));
        due.ended(&"a");
        assert!(due.contains(&"a"));
        assert_eq!(due.start(Instant::now()), ["a"]);
    }

    #[test]
    fn who_begins_finds_everything_due_at_once() {
        let now = Instant::now();
        let mut due = Due::new(2);
        due.set(&"a", None);
        due.set(&"b", Some(now + Duration::from_secs(9)));
        assert_eq!(due.start(now), ["a"]);
        due.set(&"a", Some(now + Duration::from_secs(9)));
        due.begin();
        assert_eq!(due.start(now), ["a", "b"]);
    }
}
