//! The newest value under each key, on its way from the one who says it to the one who acts on it: a value that changes
//! twice in between is seen once, so whoever is slow gets the newest state and never a queue of old ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Values by key, shared by the one who says them and the one who takes what changed.
#[derive(Debug)]
pub(crate) struct Latest<K, V>(Arc<Shared<K, V>>);

#[derive(Debug)]
struct Shared<K, V> {
    state: Mutex<State<K, V>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<K, V> {
    all: BTreeMap<K, V>,
    changed: BTreeSet<K>,
}

/// A key and its newest value; none: it is gone.
pub(crate) type Changed<K, V> = (K, Option<V>);

impl<K: Ord + Clone, V: Clone + PartialEq> Latest<K, V> {
    /// Sets the value of a key; none: it is gone. The same value again is no change.
    pub(crate) fn put(&self, key: &K, value: Option<V>) {
        let mut state = self.state();
        if state.all.get(key) == value.as_ref() {
            return;
        }
        match value {
            Some(value) => state.all.insert(key.clone(), value),
            None => state.all.remove(key),
        };
        state.changed.insert(key.clone());
        drop(state);
        self.0.changed.notify_one();
    }

    /// Begins again, for a taker that knows nothing: everything there is counts as changed, and nothing else.
    pub(crate) fn begin(&self) {
        let mut state = self.state();
        state.changed = state.all.keys().cloned().collect();
    }

    /// What changed since it was last taken, `at_most` so many.
    pub(crate) fn take(&self, at_most: usize) -> Vec<Changed<K, V>> {
        let mut state = self.state();
        let mut taken = Vec::new();
        while taken.len() < at_most
            && let Some(key) = state.changed.pop_first()
        {
            let value = state.all.get(&key).cloned();
            taken.push((key, value));
        }
        taken
    }

    /// As [`Latest::take`], but waits until there is something.
    pub(crate) async fn next(&self, at_most: usize) -> Vec<Changed<K, V>> {
        loop {
            let taken = self.take(at_most);
            if !taken.is_empty() {
                return taken;
            }
            self.0.changed.notified().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State<K, V>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> Clone for Latest<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V> Default for Latest<K, V> {
    fn default() -> Self {
        let state = Mutex::new(State { all: BTreeMap::new(), changed: BTreeSet::new() });
        Self(Arc::new(Shared { state, changed: Notify::new() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_changed_is_taken_and_only_once() {
        let latest = Latest::default();
        latest.put(&"order", Some(1));
        latest.put(&"user", Some(2));
        assert_eq!(latest.take(1), [("order", Some(1))]);
        assert_eq!(latest.take(1), [("user", Some(2))]);
        latest.put(&"user", Some(2));
        latest.put(&"order", Some(3));
        latest.put(&"order", None);
        assert_eq!(latest.next(9).await, [("order", None)]);
        assert!(latest.take(9).is_empty());
    }

    #[test]
    fn who_begins_is_told_everything_there_is() {
        let latest = Latest::default();
        latest.put(&"order", Some(1));
        latest.put(&"user", Some(2));
        latest.put(&"order", None);
        latest.begin();
        assert_eq!(latest.take(9), [("user", Some(2))], "what is gone it never knew");
    }
}
