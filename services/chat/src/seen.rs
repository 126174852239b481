//! How far users have read: gathered for a moment and written together, since everybody acknowledges everything.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    domain::{frame::MessageId, room::Room},
    store::{Seen, Store, warn_later},
};

const WRITE_EVERY: Duration = Duration::from_millis(500);
/// Most that is gathered while the database is gone; beyond that, what is new is left out.
const MOST: usize = 100_000;
/// Most that one statement writes.
const BATCH: usize = 1000;

/// The last message that each user has seen of each room.
type Waiting = HashMap<(Room, Uuid), MessageId>;

/// What users have acknowledged and is not written yet.
pub struct Acknowledged {
    store: Store,
    waiting: Mutex<Waiting>,
}

impl Acknowledged {
    /// Nothing yet.
    pub fn new(store: Store) -> Self {
        Self { store, waiting: Mutex::default() }
    }

    /// A user has seen everything up to this message.
    pub fn note(&self, room: &Room, user: Uuid, id: MessageId) {
        let mut waiting = self.lock();
        let key = (room.clone(), user);
        if waiting.len() < MOST || waiting.contains_key(&key) {
            let highest = waiting.entry(key).or_default();
            *highest = id.max(*highest);
        }
    }

    /// What a user has acknowledged and is not written yet.
    pub fn waiting(&self, room: &Room, user: Uuid) -> Option<MessageId> {
        self.lock().get(&(room.clone(), user)).copied()
    }

    /// Writes until the service closes, and what is left then.
    pub async fn write(&self, closing: CancellationToken) {
        let mut tick = interval(WRITE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while closing.run_until_cancelled(tick.tick()).await.is_some() {
            self.write_waiting().await;
        }
        self.write_waiting().await;
    }

    async fn write_waiting(&self) {
        let waiting = std::mem::take(&mut *self.lock());
        let all: Vec<Seen> = waiting.into_iter().map(|((room, user), id)| Seen { room, user, id }).collect();
        for batch in all.chunks(BATCH) {
            if let Err(error) = self.store.keep_seen(batch).await {
                warn_later("writing how far users have read", &error);
                self.note_all(batch);
            }
        }
    }

    fn note_all(&self, all: &[Seen]) {
        for seen in all {
            self.note(&seen.room, seen.user, seen.id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
