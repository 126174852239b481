//! Tokens that have been verified, so that a signature (some 40 µs) is checked once per token and not once per request.
//! Belongs to one policy, so it is gone when keys or rules change. Bounded: 4,096 sets of four tokens, made when the first
//! one comes; a mutex per set is held for a few comparisons. The whole token is compared, so a collision of hashes is only
//! a miss. Only good tokens get in, so nobody fills it without being somebody: a rush of users does, each of whom would
//! else be verified anew with every request.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::Verified;

const SETS: usize = 4096;
const WAYS: usize = 4;
/// Longer tokens are verified each time, so that memory stays bounded: some 2 KiB for the usual token of 700 bytes and its
/// claims, so about 32 MiB where sixteen thousand users come at once.
const MAX_TOKEN: usize = 4096;

#[derive(Debug)]
pub(super) struct Cache {
    hasher: RandomState,
    sets: OnceLock<Box<[Mutex<Set>]>>,
}

#[derive(Default)]
struct Set {
    entries: [Option<Entry>; WAYS],
    /// The place that goes next.
    next: usize,
}

struct Entry {
    hash: u64,
    token: Box<str>,
    verified: Arc<Verified>,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self { hasher: RandomState::new(), sets: OnceLock::new() }
    }

    /// What is known about the token, if it is good at this time.
    pub(super) fn get(&self, token: &str, now: i64) -> Option<Arc<Verified>> {
        let sets = self.sets.get()?;
        let hash = self.hasher.hash_one(token);
        let set = lock(sets, hash);
        let mut entries = set.entries.iter().flatten();
        let entry = entries.find(|entry| entry.hash == hash && *entry.token == *token)?;
        entry.verified.check_time(now).is_ok().then(|| Arc::clone(&entry.verified))
    }

    /// Remembers a verified token, in the place of an expired one if there is one.
    pub(super) fn put(&self, token: &str, verified: &Arc<Verified>, now: i64) {
        if token.len() > MAX_TOKEN {
            return;
        }
        let hash = self.hasher.hash_one(token);
        let entry = Entry { hash, token: token.into(), verified: Arc::clone(verified) };
        let sets = self.sets.get_or_init(|| (0..SETS).map(|_| Mutex::default()).collect());
        let mut set = lock(sets, hash);
        let free = |e: &Option<Entry>| {
            e.as_ref().is_none_or(|e| (e.hash == hash && *e.token == *token) || e.verified.expires <= now)
        };
        let place = set.entries.iter().position(free).unwrap_or(set.next);
        set.next = (place + 1) % WAYS;
        set.entries[place] = Some(entry);
    }
}

fn lock(sets: &[Mutex<Set>], hash: u64) -> MutexGuard<'_, Set> {
    let index = usize::try_from(hash >> 32).unwrap_or_default() % SETS;
    // An entry is put in whole or not at all.
    sets[index].lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tokens are never shown.
impl std::fmt::Debug for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Set({})", self.entries.iter().flatten().count())
    }
}
