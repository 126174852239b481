//! The history of an order: what happened to it, one fact after the other. Pure: no IO, no clock.
//!
//! An order is the fold of its facts. Whatever changes an order is a fact that is applied to it, so the row of an order
//! and the replay of its history cannot say different things.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::order::{Order, Status};

/// After so many facts the fold is kept beside them. An order has rarely more than eight.
pub const SNAPSHOT_EVERY: i32 = 4;

/// Something that happened to an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
pub enum Fact {
    /// It is being placed; its stock is not taken yet.
    Placed(Order),
    /// It was there before its history began.
    Imported(Order),
    /// Its stock is taken.
    Reserved {},
    /// Its stock could not be taken.
    Failed {
        /// Why.
        reason: String,
    },
    /// The customer named a means of payment.
    PaymentRequested {},
    /// It is paid.
    Paid {
        /// The payment; nothing when an admin said so.
        payment_id: Option<Uuid>,
    },
    /// It is on its way.
    Shipped {},
    /// It is there.
    Delivered {},
    /// It was called off.
    Cancelled {
        /// Why, when that was not the customer's wish.
        reason: String,
    },
}

/// A fact that cannot follow on what happened before.
#[derive(Debug, thiserror::Error)]
#[error("a fact does not fit an order that is {}", .0.map_or("not there", Status::as_str))]
pub struct Broken(pub Option<Status>);

/// A fact with its place in the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recorded {
    /// Its place, from 1.
    pub version: i32,
    /// What happened.
    #[serde(flatten)]
    pub fact: Fact,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
}

impl Fact {
    /// The order after this fact.
    pub fn apply(&self, before: Option<Order>) -> Result<Order, Broken> {
        match (self, before) {
            (Fact::Placed(order) | Fact::Imported(order), None) => Ok(order.clone()),
            (_, None) => Err(Broken(None)),
            (fact, Some(order)) => fact.apply_to(order),
        }
    }

    /// The order, which is there already, after this fact.
    pub fn apply_to(&self, order: Order) -> Result<Order, Broken> {
        let from = order.status;
        let to = |status, fits: bool| if fits { Ok(status) } else { Err(Broken(Some(from))) };
        let status = match self {
            Fact::Placed(_) | Fact::Imported(_) => Err(Broken(Some(from))),
            Fact::Reserved {} => to(Status::Pending, from == Status::Placing),
            Fact::Failed { .. } => to(Status::Failed, from == Status::Placing),
            Fact::PaymentRequested {} => to(from, from == Status::Pending),
            Fact::Paid { .. } => to(Status::Paid, from.may_become(Status::Paid)),
            Fact::Shipped {} => to(Status::Shipped, from.may_become(Status::Shipped)),
            Fact::Delivered {} => to(Status::Delivered, from.may_become(Status::Delivered)),
            Fact::Cancelled { .. } => to(Status::Cancelled, from.may_become(Status::Cancelled)),
        }?;
        let reason = match self {
            Fact::Cancelled { reason } | Fact::Failed { reason } => reason.clone(),
            _ => order.reason,
        };
        Ok(Order { status, reason, ..order })
    }
}

/// The order that a history tells of, beginning with what is known of its first part.
pub fn replay<'a>(
    known: Option<Order>,
    facts: impl IntoIterator<Item = &'a Fact>,
) -> Result<Option<Order>, Broken> {
    facts.into_iter().try_fold(known, |order, fact| fact.apply(order).map(Some))
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::select};

    use super::*;

    fn placed() -> Fact {
        let created = OffsetDateTime::UNIX_EPOCH;
        Fact::Placed(Order::new(Uuid::nil(), Uuid::nil(), vec![], created).unwrap_or_else(|_| Order {
            id: Uuid::nil(),
            user_id: Uuid::nil(),
            items: vec![],
            total: 0,
            currency: "EUR".into(),
            status: Status::Placing,
            reason: String::new(),
            created,
        }))
    }

    fn any_fact() -> impl Strategy<Value = Fact> {
        let reason = String::from("card_declined");
        select(vec![
            placed(),
            Fact::Reserved {},
            Fact::Failed { reason: reason.clone() },
            Fact::PaymentRequested {},
            Fact::Paid { payment_id: Some(Uuid::nil()) },
            Fact::Shipped {},
            Fact::Delivered {},
            Fact::Cancelled { reason },
        ])
    }

    #[test]
    fn a_history_is_replayed_to_where_the_order_stands() {
        let paid = Fact::Paid { payment_id: None };
        let declined = Fact::Cancelled { reason: "card_declined".into() };
        for (facts, expect) in [
            (vec![placed()], (Status::Placing, "")),
            (
                vec![placed(), Fact::Failed { reason: "out of stock".into() }],
                (Status::Failed, "out of stock"),
            ),
            (vec![placed(), Fact::Reserved {}, Fact::PaymentRequested {}], (Status::Pending, "")),
            (vec![placed(), Fact::Reserved {}, paid.clone(), Fact::Shipped {}], (Status::Shipped, "")),
            (vec![placed(), Fact::Reserved {}, declined], (Status::Cancelled, "card_declined")),
        ] {
            let order = replay(None, &facts).unwrap().unwrap();
            assert_eq!((order.status, order.reason.as_str()), expect, "{facts:?}");
        }
        for broken in [vec![paid.clone()], vec![placed(), paid], vec![placed(), placed()]] {
            assert!(replay(None, &broken).is_err(), "{broken:?}");
        }
    }

    proptest! {
        #[test]
        fn beginning_with_a_snapshot_gives_the_same(facts in prop::collection::vec(any_fact(), 0..12), cut in 0_usize..12) {
            // Only the facts that fit are a history.
            let mut history = vec![placed()];
            for fact in facts {
                history.push(fact);
                if replay(None, &history).is_err() {
                    history.pop();
                }
            }
            let cut = cut.min(history.len());
            let whole = replay(None, &history).unwrap();
            let snapshot = replay(None, &history[..cut]).unwrap();
            let text = serde_json::to_string(&snapshot).unwrap();
            let kept: Option<Order> = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(replay(kept, &history[cut..]).unwrap(), whole);
        }

        #[test]
        fn a_fact_is_read_as_it_was_written(fact in any_fact()) {
            let value = serde_json::to_value(&fact).unwrap();
            prop_assert!(value["data"].is_object(), "{}", value);
            prop_assert_eq!(serde_json::from_value::<Fact>(value).unwrap(), fact);
        }
    }
}
