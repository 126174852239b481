//! What an order is, how it is asked for, and which status may follow which. Pure: no IO, no clock.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shop_kit::errors::FieldError;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::money::{self, MoneyError};

const MOST_ITEMS: usize = 50;
const LARGEST_QUANTITY: u32 = 10_000;
const LONGEST_TEXT: usize = 200;
const TEXT: &str = "needs 1 to 200 characters that can be shown";

/// Where an order is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Stock is being taken. Nobody sees it yet.
    Placing,
    /// It came to nothing. Nobody ever saw it.
    Failed,
    /// Placed, not paid.
    Pending,
    /// Paid, not sent.
    Paid,
    /// Sent, not there.
    Shipped,
    /// There.
    Delivered,
    /// Called off.
    Cancelled,
}

impl Status {
    const ALL: [Status; 7] = [
        Status::Placing,
        Status::Failed,
        Status::Pending,
        Status::Paid,
        Status::Shipped,
        Status::Delivered,
        Status::Cancelled,
    ];

    /// The status as APIs and tables spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Placing => "placing",
            Status::Failed => "failed",
            Status::Pending => "pending",
            Status::Paid => "paid",
            Status::Shipped => "shipped",
            Status::Delivered => "delivered",
            Status::Cancelled => "cancelled",
        }
    }

    /// The status of that spelling.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// The status that a user of the API asks for.
    pub fn requested(text: &str) -> Result<Self, Invalid> {
        let known = Self::parse(text).filter(|status| status.is_visible());
        let message = "is one of pending, paid, shipped, delivered, cancelled";
        known.ok_or_else(|| Invalid(vec![FieldError::new("status", message)]))
    }

    /// Whether anybody sees an order of this status.
    pub fn is_visible(self) -> bool {
        !matches!(self, Status::Placing | Status::Failed)
    }

    /// Whether an order may go from this status to the other.
    pub fn may_become(self, next: Status) -> bool {
        matches!(
            (self, next),
            (Status::Pending, Status::Paid | Status::Cancelled)
                | (Status::Paid, Status::Shipped | Status::Cancelled)
                | (Status::Shipped, Status::Delivered)
        )
    }
}

/// A product in an order, as it was when it was ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// The product.
    pub product_id: Uuid,
    /// Its name.
    pub name: String,
    /// The price of one in minor units.
    pub price: i64,
    /// How many.
    pub quantity: u32,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// What is in it.
    pub items: Vec<Item>,
    /// What it costs, in minor units.
    pub total: i64,
    /// ISO 4217.
    pub currency: String,
    /// Where it is on its way.
    pub status: Status,
    /// Why it was cancelled, when that was not the customer's wish.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When it was placed.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
}

impl Order {
    /// An order of items, each with the currency it is sold in.
    pub fn new(
        id: Uuid,
        user_id: Uuid,
        items: Vec<(Item, String)>,
        created: OffsetDateTime,
    ) -> Result<Self, MoneyError> {
        let currency = money::currency(items.iter().map(|(_, currency)| currency.as_str()))?;
        let total = money::total(items.iter().map(|(item, _)| (item.price, item.quantity)))?;
        let items = items.into_iter().map(|(item, _)| item).collect();
        Ok(Self {
            id,
            user_id,
            items,
            total,
            currency,
            status: Status::Placing,
            reason: String::new(),
            created,
        })
    }
}

/// Fields that cannot be accepted.
#[derive(Debug, thiserror::Error)]
#[error("{} fields cannot be accepted", .0.len())]
pub struct Invalid(pub Vec<FieldError>);

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Draft {
    /// For whom.
    pub user_id: Uuid,
    /// Products and how many of each. A product that is named twice is added up.
    pub items: Vec<(Uuid, u32)>,
    /// The same key places the same order once.
    pub key: Option<String>,
    /// Token of the means by which it is paid at once; nothing when it is paid later.
    pub method: Option<String>,
}

impl Draft {
    /// Checks all fields, and puts the items in an order of which there is one.
    pub fn validate(self) -> Result<Self, Invalid> {
        let mut wrong = Vec::new();
        if self.items.is_empty() || self.items.len() > MOST_ITEMS {
            wrong.push(FieldError::new("items", "needs 1 to 50 items"));
        }
        let mut items: BTreeMap<Uuid, u32> = BTreeMap::new();
        for (i, (product, quantity)) in self.items.iter().enumerate() {
            let sum = items.entry(*product).or_default();
            *sum = sum.saturating_add(*quantity);
            if *quantity == 0 || *sum > LARGEST_QUANTITY {
                wrong.push(FieldError::new(format!("items[{i}].quantity"), "is 1 to 10000 of a product"));
            }
        }
        if self.key.as_ref().is_some_and(|key| !is_text(key)) {
            wrong.push(FieldError::new("idempotency_key", TEXT));
        }
        if self.method.as_ref().is_some_and(|method| !is_text(method)) {
            wrong.push(FieldError::new("payment.method", TEXT));
        }
        if wrong.is_empty() {
            Ok(Self { items: items.into_iter().collect(), ..self })
        } else {
            Err(Invalid(wrong))
        }
    }

    /// Whether that order is what this asks for. Both list their items by product.
    pub fn asks_for(&self, order: &Order) -> bool {
        self.user_id == order.user_id
            && self.items.iter().copied().eq(order.items.iter().map(|item| (item.product_id, item.quantity)))
    }
}

/// Checks the token of a means of payment.
pub fn check_method(method: &str) -> Result<(), Invalid> {
    if is_text(method) { Ok(()) } else { Err(Invalid(vec![FieldError::new("method", TEXT)])) }
}

fn is_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST_TEXT && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_only_goes_forward() {
        let allowed: Vec<_> = Status::ALL
            .into_iter()
            .flat_map(|from| {
                Status::ALL.into_iter().filter(move |to| from.may_become(*to)).map(move |to| (from, to))
            })
            .map(|(from, to)| format!("{} {}", from.as_str(), to.as_str()))
            .collect();
        let expect =
            ["pending paid", "pending cancelled", "paid shipped", "paid cancelled", "shipped delivered"];
        assert_eq!(allowed, expect);
    }

    #[test]
    fn inner_statuses_cannot_be_asked_for() {
        assert!(Status::requested("paid").is_ok());
        for text in ["placing", "failed", "Paid", ""] {
            assert!(Status::requested(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_product_named_twice_is_added_up() {
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let draft =
            Draft { user_id: Uuid::nil(), items: vec![(b, 1), (a, 2), (b, 3)], key: None, method: None };
        assert_eq!(draft.validate().unwrap().items, [(a, 2), (b, 4)]);
    }

    #[test]
    fn wrong_items_are_named() {
        let id = Uuid::from_u128(1);
        for (items, key, expect) in [
            (vec![], None, "items"),
            (vec![(id, 0)], None, "items[0].quantity"),
            (vec![(id, u32::MAX), (id, 1)], None, "items[0].quantity"),
            (vec![(id, 9_999), (id, 2)], None, "items[1].quantity"),
            (vec![(id, 1)], Some(String::new()), "idempotency_key"),
            (vec![(id, 1); 51], None, "items"),
        ] {
            let draft = Draft { user_id: id, items, key, method: None };
            let Err(Invalid(fields)) = draft.clone().validate() else { panic!("accepted: {draft:?}") };
            assert_eq!(fields[0].field, expect, "{draft:?}");
        }
    }
}
