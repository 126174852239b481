//! The answers themselves, within a bound on memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::time::Instant;

/// What an entry costs beside its texts.
const OVERHEAD: usize = 512;

#[derive(Debug)]
pub(super) struct Store {
    entries: HashMap<Arc<str>, Kept>,
    /// Keys by when they were stored.
    order: BTreeMap<u64, Arc<str>>,
    turn: u64,
    bytes: usize,
    limit: usize,
}

/// The turn it was stored in, and the answer.
type Kept = (u64, Arc<Entry>);

/// What the answer varies by, with the values of the request it answered.
pub(super) type Vary = Box<[(HeaderName, Option<HeaderValue>)]>;

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) vary: Vary,
    pub(super) body: Bytes,
    pub(super) public: bool,
    pub(super) stored: Instant,
}

impl Store {
    pub(super) fn new(limit: usize) -> Self {
        Self { entries: HashMap::new(), order: BTreeMap::new(), turn: 0, bytes: 0, limit }
    }

    pub(super) fn age(&self, key: &str, now: Instant) -> Option<Duration> {
        self.entries.get(key).map(|(_, entry)| now.saturating_duration_since(entry.stored))
    }

    pub(super) fn get(&self, key: &str, now: Instant) -> Option<(Arc<Entry>, Duration)> {
        let (_, entry) = self.entries.get(key)?;
        Some((Arc::clone(entry), now.saturating_duration_since(entry.stored)))
    }

    pub(super) fn put(&mut self, key: Arc<str>, entry: Entry) {
        self.remove(&key);
        self.bytes += size(&key, &entry);
        self.turn += 1;
        self.order.insert(self.turn, Arc::clone(&key));
        self.entries.insert(key, (self.turn, Arc::new(entry)));
        while self.bytes > self.limit
            && let Some(oldest) = self.order.values().next().cloned()
        {
            self.remove(&oldest);
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some((turn, entry)) = self.entries.remove(key) {
            self.order.remove(&turn);
            self.bytes -= size(key, &entry);
        }
    }
}

fn size(key: &str, entry: &Entry) -> usize {
    let headers: usize =
        entry.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64).sum();
    OVERHEAD + key.len() + headers + entry.body.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(size: usize) -> Entry {
        Entry {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            vary: Box::default(),
            body: vec![0; size].into(),
            public: true,
            stored: Instant::now(),
        }
    }

    #[test]
    fn the_oldest_goes_when_there_is_no_room() {
        let mut store = Store::new(3 * (OVERHEAD + 1001));
        for key in ["a", "b", "c", "a", "d"] {
            store.put(key.into(), entry(1000));
        }
        let mut kept: Vec<_> = store.entries.keys().map(|key| &**key).collect();
        kept.sort_unstable();
        assert_eq!(kept, ["a", "c", "d"]);
        assert_eq!(store.order.len(), 3);
        store.put("e".into(), entry(10_000));
        assert_eq!((store.entries.len(), store.bytes), (0, 0), "what does not fit at all is not kept");
    }
}
