//! What the payment service tells of its payments, heard by the group `ticket`: a ticket that waited is settled.
//!
//! An event may come twice and needs no inbox: a ticket leaves a status once, whoever moves it on.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use shop_kit::{
    errors::Problem,
    events::{Event, Failure, Handle},
};

use super::{Error, Tickets, ticket};
use crate::domain::ticket::Payment;

/// The streams that are heard.
pub const STREAMS: [&str; 3] = ["payment.captured", "payment.declined", "payment.refunded"];
/// The group that hears them.
pub const GROUP: &str = "ticket";

const LONGEST: Duration = Duration::from_secs(10);

/// Settles tickets as it is told.
pub struct Ear(pub Arc<Tickets>);

#[derive(Deserialize)]
struct Told {
    reference: String,
    #[serde(default)]
    reason: String,
}

impl Handle for Ear {
    async fn handle(&self, event: &Event) -> Result<(), Failure> {
        let told: Told = serde_json::from_value(event.data.clone())
            .map_err(|error| Failure::Reject(format!("no payment: {error}")))?;
        // Orders are paid too.
        let Some(id) = ticket::of_reference(&told.reference) else { return Ok(()) };
        let payment = match event.stream.as_str() {
            "payment.captured" => Payment::Captured,
            "payment.declined" => Payment::Declined(told.reason),
            _ => Payment::Refunded,
        };
        let Some(ticket) = self.0.store.ticket(id).await? else {
            return Err(Failure::Reject(format!("there is no ticket {id}")));
        };
        match self.0.settle(&event.cx(LONGEST), ticket, &payment).await {
            Ok(_) => Ok(()),
            Err(error @ Error::NoTicket) => Err(Failure::Reject(error.to_string())),
            Err(error) => Err(Failure::Retry(Problem::from(error).into())),
        }
    }
}
