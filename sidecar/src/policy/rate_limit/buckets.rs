//! The buckets of one local limit, shared by all workers. A limit without key is one atomic. With a key, buckets stand
//! in a table of fixed size: eight places per set, a mutex per set held for some comparisons. A full set gives up a
//! bucket that is full again, which loses nothing, else the one nearest to it; an attacker who sends many keys
//! therefore costs bounded memory and hardly weakens the limits of others.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::time::Instant;

use super::Rate;

const WAYS: usize = 8;
/// 16,384 keys, 272 KiB, made when the first one comes.
const SETS: usize = 2048;

#[derive(Debug)]
pub(super) struct Buckets {
    base: Instant,
    /// Nobody outside can choose keys that share a bucket.
    hasher: RandomState,
    single: AtomicU64,
    sets: OnceLock<Box<[Mutex<Set>]>>,
}

/// Hash of the key (0: free) and when its bucket is full again, in nanoseconds after the base.
type Set = [(u64, u64); WAYS];

impl Buckets {
    pub(super) fn new(now: Instant) -> Self {
        Self { base: now, hasher: RandomState::new(), single: AtomicU64::new(0), sets: OnceLock::new() }
    }

    /// Takes a token from the bucket of this key; else says in how many nanoseconds there is one.
    pub(super) fn take(&self, rate: Rate, key: Option<&[u8]>, now: Instant) -> Result<(), u64> {
        let now = u64::try_from(now.saturating_duration_since(self.base).as_nanos()).unwrap_or(u64::MAX);
        let Some(key) = key else { return self.take_single(rate, now) };
        let hash = self.hasher.hash_one(key).max(1);
        let sets = self.sets.get_or_init(|| (0..SETS).map(|_| Mutex::default()).collect());
        let index = usize::try_from(hash >> 32).unwrap_or_default() % SETS;
        // Two numbers are always whole, so a poisoned set is still a set.
        let mut set = sets[index].lock().unwrap_or_else(PoisonError::into_inner);
        let place = set.iter().position(|(owner, _)| *owner == hash).unwrap_or_else(|| {
            let oldest =
                set.iter().enumerate().min_by_key(|(_, (_, full))| *full).map_or(0, |(place, _)| place);
            set[oldest] = (hash, 0);
            oldest
        });
        set[place].1 = spend(rate, set[place].1, now)?;
        Ok(())
    }

    fn take_single(&self, rate: Rate, now: u64) -> Result<(), u64> {
        let mut full = self.single.load(Ordering::Relaxed);
        loop {
            let new = spend(rate, full, now)?;
            match self.single.compare_exchange_weak(full, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(seen) => full = seen,
            }
        }
    }
}

/// When the bucket is full again after one more token is taken; else how long until there is one.
fn spend(rate: Rate, full: u64, now: u64) -> Result<u64, u64> {
    let new = full.max(now).saturating_add(rate.step);
    match (new - now).saturating_sub(rate.room()) {
        0 => Ok(new),
        wait => Err(wait),
    }
}
