//! Products kept in the process itself, for a moment, when the settings say so: a read that is answered from here asks
//! nobody. The instance that changes a product tells the others by Pub/Sub.
//!
//! Off by default: between a change and the message of it another instance still shows the product as it was, and a
//! message that is lost is missed until the entry ends. While nobody listens nothing is kept.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::StreamExt as _;
use redis::{Client, RedisResult};
use shop_kit::errors::chain;
use tokio::time::{Instant, sleep};
use tracing::warn;
use uuid::Uuid;

use crate::domain::product::Product;

/// The channel on which instances tell each other of changed products.
pub const CHANNEL: &str = "product:changed";
const MOST: usize = 1000;
const RETRY: Duration = Duration::from_secs(1);

/// What is kept.
pub struct Near {
    lifetime: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    listening: bool,
    /// Of any product, since the start: what was read before a change must not be kept after it.
    changes: u64,
    kept: HashMap<Uuid, (Product, Instant)>,
}

/// The right to keep what is read from now on, as long as nothing changes.
#[derive(Clone, Copy)]
pub struct Ticket(u64);

impl Near {
    /// Keeps each product for so long; not at all if that is no time.
    pub fn new(lifetime: Duration) -> Self {
        Self { lifetime, state: Mutex::default() }
    }

    /// The product of that id, if it is here.
    pub fn get(&self, id: Uuid, now: Instant) -> Option<Product> {
        let state = self.state();
        state.kept.get(&id).filter(|(_, until)| now < *until).map(|(product, _)| product.clone())
    }

    /// To be taken before a product is read that is to be kept.
    pub fn ticket(&self) -> Ticket {
        Ticket(self.state().changes)
    }

    /// Keeps a product, if nothing has changed since it was read.
    pub fn put(&self, ticket: Ticket, product: &Product, now: Instant) {
        let mut state = self.state();
        if !state.listening || state.changes != ticket.0 {
            return;
        }
        if state.kept.len() >= MOST {
            state.kept.retain(|_, (_, until)| now < *until);
        }
        if state.kept.len() < MOST {
            state.kept.insert(product.id, (product.clone(), now + self.lifetime));
        }
    }

    /// Drops a product that changed.
    pub fn drop(&self, id: Uuid) {
        let mut state = self.state();
        state.changes += 1;
        state.kept.remove(&id);
    }

    /// Listens to the other instances until dropped; returns at once when nothing is to be kept.
    pub async fn follow(&self, redis: &Client) {
        while !self.lifetime.is_zero() {
            if let Err(error) = self.listen(redis).await {
                warn!(error = chain(&error), "changes by other instances are not heard");
            }
            self.set_listening(false);
            sleep(RETRY).await;
        }
    }

    async fn listen(&self, redis: &Client) -> RedisResult<()> {
        let mut channel = redis.get_async_pubsub().await?;
        channel.subscribe(CHANNEL).await?;
        self.set_listening(true);
        let mut messages = channel.into_on_message();
        while let Some(message) = messages.next().await {
            if let Some(id) = message.get_payload::<String>().ok().and_then(|id| id.parse().ok()) {
                self.drop(id);
            }
        }
        Ok(())
    }

    /// Nothing is kept from a time in which nobody listened.
    fn set_listening(&self, listening: bool) {
        let mut state = self.state();
        state.changes += 1;
        state.kept.clear();
        state.listening = listening;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::product::seeds;

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let (near, now) = (Near::new(Duration::from_secs(5)), Instant::now());
        let product = seeds(time::OffsetDateTime::UNIX_EPOCH).remove(0);
        let id = product.id;
        near.put(near.ticket(), &product, now);
        assert!(near.get(id, now).is_none(), "nobody listens");
        near.set_listening(true);
        near.put(near.ticket(), &product, now);
        assert_eq!(near.get(id, now + Duration::from_secs(4)), Some(product.clone()));
        assert!(near.get(id, now + Duration::from_secs(5)).is_none());

        let ticket = near.ticket();
        near.drop(id);
        near.put(ticket, &product, now);
        assert!(near.get(id, now).is_none());
        near.put(near.ticket(), &product, now);
        near.set_listening(false);
        assert!(near.get(id, now).is_none(), "a message may have been missed");
    }
}
