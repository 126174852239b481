//! Seats held under the lock of the event's row in PostgreSQL: simple, durable at once, and one customer at a time.

use std::time::Duration;

use time::OffsetDateTime;

use super::{Desk, Reserved};
use crate::{
    domain::{
        Error,
        sale::Sale,
        ticket::{Ask, Hold},
    },
    redis::queue::Queue,
    store::{Store, tickets::Locked},
};

/// The strategy `postgres`.
pub struct RowLock {
    store: Store,
    queue: Queue,
    lifetime: Duration,
}

impl RowLock {
    /// Holds seats in these tables for so long, and lets people in by that queue.
    pub fn new(store: Store, queue: Queue, lifetime: Duration) -> Self {
        Self { store, queue, lifetime }
    }
}

impl Desk for RowLock {
    async fn reserve(&self, sale: &Sale, ask: &Ask, now: OffsetDateTime) -> Result<Reserved, Error> {
        self.queue.admit(sale, ask.user_id).await?;
        let hold = Hold {
            id: ask.id,
            user_id: ask.user_id,
            quantity: ask.quantity,
            expires: now + self.lifetime,
            created: now,
        };
        match self.store.hold_under_lock(sale, &hold).await? {
            Locked::New => Ok(Reserved::New(hold)),
            Locked::Known => Ok(Reserved::Known(None)),
            Locked::SoldOut => Err(Error::SoldOut),
            Locked::LimitReached => Err(Error::LimitReached(sale.per_user_limit)),
        }
    }

    async fn left(&self, sale: &Sale) -> Result<i64, Error> {
        Ok(i64::from(sale.capacity - self.store.taken(sale.id).await?))
    }
}
