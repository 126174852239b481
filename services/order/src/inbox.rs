//! Hears what became of payments, also of those that nobody waits for any more. Each event has its effect once.

use std::sync::Arc;

use serde::Deserialize;
use shop_kit::{
    clock,
    events::{Event, Failure, Handle},
};
use uuid::Uuid;

use crate::{
    domain::{Orders, saga::Outcome},
    neighbours::order_of,
    store::Moment,
};

/// The streams that are heard.
pub const STREAMS: [&str; 3] = ["payment.captured", "payment.declined", "payment.refunded"];

/// Hears events of payments.
pub struct Inbox {
    orders: Arc<Orders>,
}

#[derive(Deserialize)]
struct Payment {
    #[serde(rename = "payment_id")]
    id: Uuid,
    reference: String,
    #[serde(default)]
    reason: String,
}

impl Inbox {
    /// Hears them for these orders.
    pub fn new(orders: Arc<Orders>) -> Self {
        Self { orders }
    }
}

impl Handle for Inbox {
    async fn handle(&self, event: &Event) -> Result<(), Failure> {
        let read = Payment::deserialize(&event.data);
        let payment =
            read.map_err(|error| Failure::Reject(format!("not the event of a payment: {error}")))?;
        // Payments are made for tickets too.
        let Some(order) = order_of(&payment.reference) else { return Ok(()) };
        let outcome = match event.stream.as_str() {
            "payment.captured" => Outcome::Captured(Some(payment.id)),
            "payment.declined" => Outcome::Declined(payment.reason),
            "payment.refunded" => Outcome::Returned,
            other => return Err(Failure::Reject(format!("{other} says nothing of orders"))),
        };
        let at = Moment { now: clock::now(), traceparent: event.traceparent.as_deref() };
        Ok(self.orders.heard(order, &outcome, event.id, at).await?)
    }
}
