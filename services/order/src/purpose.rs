//! Answers what a payment is for, when it is for an order.

use std::sync::Arc;

use serde_json::{Value, json};
use shop_kit::{
    cx::Cx,
    errors::Problem,
    events::call::{Answer, Question},
    purpose::{Asked, Purpose},
};

use crate::{
    domain::{Error, Orders},
    neighbours::order_of,
};

/// Where it is asked.
pub const ADDRESS: &str = "order.purpose";

/// Knows the orders.
pub struct Purposes(pub Arc<Orders>);

impl Answer for Purposes {
    async fn answer(&self, _: &Cx, question: Question) -> Result<Value, Problem> {
        let id = order_of(&Asked::read(question)?.reference).ok_or(Error::NotFound)?;
        let order = self.0.get(id, None).await?;
        let items = order.items.iter().map(|item| format!("{} × {}", item.quantity, item.name));
        Ok(json!(Purpose { status: order.status.as_str().to_owned(), items: items.collect() }))
    }
}
