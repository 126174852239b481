//! What one local limit has counted, shared by all workers. A limit without key is one number; with a key, numbers stand
//! in a table of fixed size: eight places per set, a mutex per set held for some comparisons. A full set gives up the
//! place that is nearest to being unused; an attacker who sends many keys therefore costs bounded memory and hardly
//! weakens the limits of others.

use std::hash::{BuildHasher, RandomState};
use std::sync::{OnceLock, PoisonError};

use tokio::time::Instant;

use super::window::Window;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};

const WAYS: usize = 8;
/// 16,384 keys, 272 KiB for buckets, made when the first one comes.
const SETS: usize = 2048;

/// How many requests; times in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rate {
    /// A token comes back every `step`, and so many fit in.
    Bucket { step: u64, capacity: u32 },
    /// So many in any `span`.
    Window { span: u64, most: u32 },
}

/// What counting one request came to; times in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    /// How long until there is room; 0: there was.
    pub(super) wait: u64,
    pub(super) left: u32,
    pub(super) reset: u64,
}

#[derive(Debug)]
pub(super) struct Counts {
    base: Instant,
    of: Of,
}

#[derive(Debug)]
enum Of {
    /// When the bucket is full again, in nanoseconds after the base.
    Buckets {
        span: u64,
        most: u32,
        single: AtomicU64,
        keyed: Table<u64>,
    },
    Windows {
        span: u64,
        most: u32,
        single: Mutex<Window>,
        keyed: Table<Window>,
    },
}

impl Counts {
    pub(super) fn new(rate: Rate, now: Instant) -> Self {
        let of = match rate {
            Rate::Bucket { step: span, capacity: most } => {
                Of::Buckets { span, most, single: AtomicU64::default(), keyed: Table::default() }
            }
            Rate::Window { span, most } => {
                Of::Windows { span, most, single: Mutex::default(), keyed: Table::default() }
            }
        };
        Self { base: now, of }
    }

    /// Counts one request of this key, or says how long until there is room for it.
    pub(super) fn take(&self, key: Option<&[u8]>, now: Instant) -> Count {
        let now = u64::try_from(now.saturating_duration_since(self.base).as_nanos()).unwrap_or(u64::MAX);
        match (&self.of, key) {
            (Of::Buckets { span, most, keyed, .. }, Some(key)) => keyed.with(key, |full| {
                let (after, count) = spend(*span, *most, *full, now);
                *full = after;
                count
            }),
            (Of::Buckets { span, most, single, .. }, None) => take_single(single, *span, *most, now),
            (Of::Windows { span, most, keyed, .. }, Some(key)) => {
                keyed.with(key, |window| window.take(*span, *most, now))
            }
            (Of::Windows { span, most, single, .. }, None) => {
                // Three numbers are always whole, so a poisoned window is still a window.
                single.lock().unwrap_or_else(PoisonError::into_inner).take(*span, *most, now)
            }
        }
    }
}

fn take_single(single: &AtomicU64, span: u64, most: u32, now: u64) -> Count {
    let mut full = single.load(Ordering::Relaxed);
    loop {
        let (after, count) = spend(span, most, full, now);
        match single.compare_exchange_weak(full, after, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return count,
            Err(seen) => full = seen,
        }
    }
}

/// When the bucket is full again after one more token is taken, if there is one.
fn spend(step: u64, capacity: u32, full: u64, now: u64) -> (u64, Count) {
    let room = step.saturating_mul(capacity.into());
    let before = full.max(now);
    let after = before.saturating_add(step);
    match (after - now).saturating_sub(room) {
        0 => {
            let left = u32::try_from((room - (after - now)) / step).unwrap_or(u32::MAX);
            (after, Count { wait: 0, left, reset: after - now })
        }
        wait => (full, Count { wait, left: 0, reset: before - now }),
    }
}

/// A value per key, in a bounded number of places; the least value is the first to be given up.
#[derive(Debug)]
struct Table<T> {
    /// Nobody outside can choose keys that share a place.
    hasher: RandomState,
    sets: OnceLock<Box<[Set<T>]>>,
}

/// Hash of the key (0: free) and its value.
type Set<T> = Mutex<[(u64, T); WAYS]>;

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { hasher: RandomState::new(), sets: OnceLock::new() }
    }
}

impl<T: Copy + Default + Ord> Table<T> {
    fn with<R>(&self, key: &[u8], then: impl FnOnce(&mut T) -> R) -> R {
        let hash = self.hasher.hash_one(key).max(1);
        let sets = self.sets.get_or_init(|| (0..SETS).map(|_| Set::default()).collect());
        let index = usize::try_from(hash >> 32).unwrap_or_default() % SETS;
        // Numbers are always whole, so a poisoned set is still a set.
        let mut set = sets[index].lock().unwrap_or_else(PoisonError::into_inner);
        let place = set.iter().position(|(owner, _)| *owner == hash).unwrap_or_else(|| {
            let least = set.iter().enumerate().min_by_key(|(_, (_, value))| *value);
            let least = least.map_or(0, |(place, _)| place);
            set[least] = (hash, T::default());
            least
        });
        then(&mut set[place].1)
    }
}
