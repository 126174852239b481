//! Events: told if, and only if, the change they tell of was committed; heard by every group of consumers, at least
//! once; taken to heart once.
//!
//! `outbox` is the way out (PostgreSQL to Redis Stream), `consumer` the way in (a consumer group with retries and a
//! dead-letter stream), `inbox` what makes an event that comes twice count once. `wire` is how an event looks in a
//! stream; `call` is for those who want an answer. What an event means is the business of those who tell it and those who hear it.

pub mod call;
pub mod consumer;
pub mod inbox;
pub mod outbox;
mod wire;

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use serde_json::Value;
use sqlx::FromRow;
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

pub use consumer::{Consumer, Failure, Handle};
pub use outbox::{PublishError, Publisher, enqueue, enqueue_all};

use crate::cx::Cx;

/// Something that happened.
#[derive(Clone, Debug, FromRow)]
pub struct Event {
    /// The same however often the event is delivered.
    pub id: Uuid,
    /// The stream it goes to, which is also its type: `order.created`.
    pub stream: String,
    /// What happened.
    pub data: Value,
    /// The trace it happened in.
    pub traceparent: Option<String>,
    /// When.
    pub time: OffsetDateTime,
}

impl Event {
    /// A context for what is done because of the event: it goes on with the event's trace, and nobody waits for it.
    pub fn cx(&self, longest: Duration) -> Cx {
        let parent = self.traceparent.as_deref().and_then(|parent| HeaderValue::from_str(parent).ok());
        let mut headers = HeaderMap::new();
        if let Some(parent) = parent {
            headers.insert("traceparent", parent);
        }
        Cx::new(&headers, Instant::now(), longest)
    }
}

#[cfg(test)]
mod tests;
