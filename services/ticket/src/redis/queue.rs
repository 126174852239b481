//! The waiting queue of an event: who joins learns at once when to come in, one after the other at the event's rate.
//!
//! It is in Redis for both strategies. When Redis loses it, those who wait join again; while Redis is gone, nobody waits.

use std::time::Duration;

use ::redis::RedisResult;
use serde::Serialize;
use time::OffsetDateTime;
use tracing::warn;
use uuid::Uuid;

use super::{
    Keys, QUEUE,
    link::{Link, invoke},
};
use crate::domain::{Error, sale::Sale};

/// How long a customer who was let in may take.
pub const PLACE_LIFETIME: Duration = Duration::from_mins(5);
/// How long the keys of an event outlive its sale.
const KEPT: time::Duration = time::Duration::DAY;

/// Where a customer is in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// 1 for who is let in next; 0 when let in already.
    pub position: u64,
    /// How long until then, in milliseconds.
    pub estimated_wait_ms: u64,
    /// Whether tickets can be reserved now.
    pub admitted: bool,
}

/// The waiting queues.
#[derive(Clone)]
pub struct Queue {
    link: Link,
}

impl Queue {
    /// The queues on that server.
    pub fn new(link: Link) -> Self {
        Self { link }
    }

    /// Takes a place at the end, or keeps the one that the customer has.
    pub async fn join(&self, sale: &Sale, user: Uuid) -> Result<Place, Error> {
        self.ask("join", sale, user).await?.ok_or(Error::NotQueued)
    }

    /// Where the customer is.
    pub async fn look(&self, sale: &Sale, user: Uuid) -> Result<Place, Error> {
        self.ask("look", sale, user).await?.ok_or(Error::NotQueued)
    }

    /// Passes who may come in now.
    pub async fn admit(&self, sale: &Sale, user: Uuid) -> Result<(), Error> {
        if sale.admission_rate.is_none() {
            return Ok(());
        }
        match self.ask("pass", sale, user).await {
            Ok(Some(place)) if place.admitted => Ok(()),
            Ok(Some(place)) => Err(Error::Waiting(place.estimated_wait_ms)),
            Ok(None) => Err(Error::Crowded),
            // The row of the event keeps the seats right without a queue; a crowd at it is only slow.
            Err(Error::Redis(error)) => {
                warn!(event = %sale.id, %error, "no queue without redis");
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn ask(&self, what: &str, sale: &Sale, user: Uuid) -> Result<Option<Place>, Error> {
        let rate = sale.admission_rate.ok_or(Error::NoQueue)?;
        let keys = Keys::of(sale.number);
        let mut call = invoke(&QUEUE, 2);
        call.arg(&keys.queue).arg(&keys.turn).arg(what).arg(user.to_string()).arg(rate);
        call.arg(millis(sale.opens)).arg(millis_of(PLACE_LIFETIME)).arg(end_of_keys(sale));
        let session = self.link.session().await?;
        let answer: RedisResult<Vec<u64>> = self.link.call(&session, &QUEUE, &call).await;
        Ok(match answer?[..] {
            [1, ahead, wait] => Some(Place {
                position: if wait == 0 { 0 } else { ahead + 1 },
                estimated_wait_ms: wait,
                admitted: wait == 0,
            }),
            _ => None,
        })
    }
}

/// A time as scripts know it.
pub fn millis(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

/// A duration as scripts know it.
pub fn millis_of(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// When Redis forgets an event.
pub fn end_of_keys(sale: &Sale) -> i64 {
    millis(sale.closes.saturating_add(KEPT))
}
