//! Answers what a payment is for, when it is for a ticket.

use std::sync::Arc;

use serde_json::{Value, json};
use shop_kit::{
    cx::Cx,
    errors::Problem,
    events::call::{Answer, Question},
    purpose::{Asked, Purpose},
};

use super::{Error, Tickets, ticket};

/// Where it is asked.
pub const ADDRESS: &str = "ticket.purpose";

/// Knows the tickets.
pub struct Purposes(pub Arc<Tickets>);

impl Answer for Purposes {
    async fn answer(&self, _: &Cx, question: Question) -> Result<Value, Problem> {
        let id = ticket::of_reference(&Asked::read(question)?.reference).ok_or(Error::NoTicket)?;
        let ticket = self.0.ticket(id, None).await?;
        let items = vec![format!("{} × {}", ticket.quantity, ticket.event_name)];
        Ok(json!(Purpose { status: ticket.status.as_str().to_owned(), items }))
    }
}
