//! What a ticket is, which status may follow which, what a payment makes of it, and how ids are made. Pure.
//!
//! The id of a ticket begins with the number of its event, so that a ticket that only Redis knows is found without an
//! index. With an idempotency key the rest of the id is a digest of user and key: the same key names the same ticket,
//! and the primary key of the table keeps it single whatever is lost or sent twice.

use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use shop_kit::{errors::FieldError, events::Event};
use time::OffsetDateTime;
use uuid::{Builder, Uuid};

use crate::domain::{Invalid, sale::Sale};

const LONGEST_KEY: usize = 200;
const LONGEST_METHOD: usize = 200;

/// Where a ticket is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Reserved until it expires.
    Held,
    /// The payment is under way.
    Paying,
    /// Paid.
    Sold,
    /// Cancelled; the money is not back yet.
    Refunding,
    /// Cancelled, and the money back if there was any.
    Cancelled,
    /// Not paid: the payment was declined or never came.
    Declined,
    /// Not bought in time.
    Expired,
}

impl Status {
    /// All of them.
    pub const ALL: [Status; 7] = [
        Status::Held,
        Status::Paying,
        Status::Sold,
        Status::Refunding,
        Status::Cancelled,
        Status::Declined,
        Status::Expired,
    ];

    /// The status as the table spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Held => "held",
            Status::Paying => "paying",
            Status::Sold => "sold",
            Status::Refunding => "refunding",
            Status::Cancelled => "cancelled",
            Status::Declined => "declined",
            Status::Expired => "expired",
        }
    }

    /// The status of that spelling.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether a ticket of this status takes its seats from others.
    pub fn takes_seats(self) -> bool {
        matches!(self, Status::Held | Status::Paying | Status::Sold | Status::Refunding)
    }

    /// What a ticket of this status is told about its payment makes of it.
    pub fn after(self, payment: &Payment) -> Next {
        match (self, payment) {
            (Status::Paying, Payment::Captured) => Next::Become(Status::Sold),
            (Status::Paying, Payment::Declined(_) | Payment::Refunded) => Next::Become(Status::Declined),
            (Status::Refunding, Payment::Declined(_) | Payment::Refunded)
            | (Status::Sold, Payment::Refunded) => Next::Become(Status::Cancelled),
            // Cannot be, as these statuses are reached only when no payment can come any more; but nobody pays for nothing.
            (Status::Cancelled | Status::Declined | Status::Expired, Payment::Captured) => {
                Next::GiveMoneyBack
            }
            _ => Next::Stay,
        }
    }

    /// The message that tells the others of a ticket that became so.
    fn stream(self) -> Option<&'static str> {
        match self {
            Status::Sold => Some("ticket.purchased"),
            Status::Cancelled | Status::Declined => Some("ticket.cancelled"),
            Status::Expired => Some("ticket.expired"),
            Status::Held | Status::Paying | Status::Refunding => None,
        }
    }
}

/// What the payment service says of a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payment {
    /// It is not known yet.
    Pending,
    /// The money was taken.
    Captured,
    /// It was not, and why.
    Declined(String),
    /// The money is on its way back.
    Refunding,
    /// The money is back, or the payment can no longer happen.
    Refunded,
}

/// What to do with a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing.
    Stay,
    /// Give it that status.
    Become(Status),
    /// It was paid and is not to be had: return the money.
    GiveMoneyBack,
}

/// Seats held for a customer, as both strategies make them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The ticket.
    pub id: Uuid,
    /// The customer.
    pub user_id: Uuid,
    /// How many seats.
    pub quantity: i32,
    /// Until when.
    pub expires: OffsetDateTime,
    /// Since when.
    pub created: OffsetDateTime,
}

/// A ticket: seats of one event for one customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ticket {
    /// Its id.
    pub id: Uuid,
    /// The event.
    pub event_id: Uuid,
    /// Its name.
    pub event_name: String,
    /// Whose it is.
    pub user_id: Uuid,
    /// How many seats.
    pub quantity: i32,
    /// What they cost together, in minor units.
    pub price: i64,
    /// ISO 4217.
    pub currency: String,
    /// Where it is on its way.
    pub status: Status,
    /// Why it was declined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Until when it is held.
    #[serde(with = "time::serde::rfc3339")]
    pub expires: OffsetDateTime,
    /// When it was reserved.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// The trace it was bought in.
    #[serde(skip)]
    pub traceparent: Option<String>,
}

impl Ticket {
    /// Seats that are held, as a ticket.
    pub fn held(sale: &Sale, hold: &Hold) -> Self {
        Self {
            id: hold.id,
            event_id: sale.id,
            event_name: sale.name.clone(),
            user_id: hold.user_id,
            quantity: hold.quantity,
            price: sale.total(hold.quantity),
            currency: sale.currency.clone(),
            status: Status::Held,
            reason: None,
            expires: hold.expires,
            created: hold.created,
            traceparent: None,
        }
    }

    /// The message that tells the others what became of the ticket, if it is one that they are told.
    pub fn message(&self, now: OffsetDateTime) -> Option<Event> {
        let mut data = json!({
            "ticket_id": self.id,
            "event_id": self.event_id,
            "event_name": self.event_name,
            "user_id": self.user_id,
            "quantity": self.quantity,
            "price": self.price,
            "currency": self.currency,
        });
        if let Some(reason) = &self.reason {
            data["reason"] = json!(reason);
        }
        self.status.stream().map(|stream| Event {
            id: Uuid::now_v7(),
            stream: stream.into(),
            data,
            traceparent: self.traceparent.clone(),
            time: now,
        })
    }
}

/// What a customer asks for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The customer.
    pub user_id: Uuid,
    /// How many seats.
    pub quantity: i32,
    /// The ticket that they will be.
    pub id: Uuid,
}

impl Ask {
    /// Checks quantity and idempotency key, and names the ticket.
    pub fn new(sale: &Sale, user_id: Uuid, quantity: i64, key: Option<&str>) -> Result<Self, Invalid> {
        let mut wrong = Vec::new();
        // The limit itself is not a matter of form: a sale has its own, and says so.
        let quantity = i32::try_from(quantity).ok().filter(|quantity| *quantity > 0);
        if quantity.is_none() {
            wrong.push(FieldError::new("quantity", "is a number from 1 to what one customer may have"));
        }
        if key.is_some_and(|key| !is_plain(key, LONGEST_KEY)) {
            wrong.push(FieldError::new("Idempotency-Key", "needs 1 to 200 characters that can be shown"));
        }
        match quantity {
            Some(quantity) if wrong.is_empty() => {
                let id = key.map_or_else(|| fresh(sale.number), |key| keyed(sale.number, user_id, key));
                Ok(Self { user_id, quantity, id })
            }
            _ => Err(Invalid(wrong)),
        }
    }
}

/// Checks a means of payment: a token that only the payment service understands.
pub fn check_method(method: &str) -> Result<(), Invalid> {
    if is_plain(method, LONGEST_METHOD) {
        return Ok(());
    }
    Err(Invalid(vec![FieldError::new("method", "needs 1 to 200 characters that can be shown")]))
}

fn is_plain(text: &str, longest: usize) -> bool {
    !text.is_empty() && text.len() <= longest && !text.chars().any(char::is_control)
}

fn fresh(number: i32) -> Uuid {
    let mut bytes = *Uuid::new_v4().as_bytes();
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Builder::from_random_bytes(bytes).into_uuid()
}

fn keyed(number: i32, user: Uuid, key: &str) -> Uuid {
    let digest = Sha256::new().chain_update(user.as_bytes()).chain_update(key).finalize();
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes[4..].copy_from_slice(&digest[..12]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

/// The number of the event that a ticket is for.
pub fn number_of(ticket: Uuid) -> i32 {
    let [a, b, c, d, ..] = *ticket.as_bytes();
    i32::from_be_bytes([a, b, c, d])
}

/// Whether the ticket was named by an idempotency key, which may come again.
pub fn is_keyed(ticket: Uuid) -> bool {
    ticket.get_version_num() == 8
}

/// What a payment for a ticket is called.
pub fn reference(ticket: Uuid) -> String {
    format!("ticket:{ticket}")
}

/// The ticket that a payment is for; none when it is for something else.
pub fn of_reference(reference: &str) -> Option<Uuid> {
    reference.strip_prefix("ticket:")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_ticket_goes_its_way_as_its_payment_does() {
        let declined = Payment::Declined("no".into());
        for (from, payment, expect) in [
            (Status::Paying, Payment::Captured, Next::Become(Status::Sold)),
            (Status::Paying, declined.clone(), Next::Become(Status::Declined)),
            (Status::Paying, Payment::Refunded, Next::Become(Status::Declined)),
            (Status::Paying, Payment::Pending, Next::Stay),
            (Status::Refunding, Payment::Captured, Next::Stay),
            (Status::Refunding, Payment::Refunding, Next::Stay),
            (Status::Refunding, Payment::Refunded, Next::Become(Status::Cancelled)),
            (Status::Refunding, declined, Next::Become(Status::Cancelled)),
            (Status::Sold, Payment::Captured, Next::Stay),
            (Status::Sold, Payment::Refunded, Next::Become(Status::Cancelled)),
            (Status::Expired, Payment::Captured, Next::GiveMoneyBack),
            (Status::Held, Payment::Captured, Next::Stay),
        ] {
            assert_eq!(from.after(&payment), expect, "{from:?} {payment:?}");
        }
    }

    #[test]
    fn seats_that_were_given_up_are_never_taken_again() {
        let payments = [
            Payment::Pending,
            Payment::Captured,
            Payment::Declined(String::new()),
            Payment::Refunding,
            Payment::Refunded,
        ];
        for from in Status::ALL.into_iter().filter(|status| !status.takes_seats()) {
            for payment in &payments {
                assert!(!matches!(from.after(payment), Next::Become(_)), "{from:?} {payment:?}");
            }
        }
    }

    #[test]
    fn only_tickets_are_found_in_references() {
        let id = Uuid::new_v4();
        assert_eq!(of_reference(&reference(id)), Some(id));
        for text in
            ["", "ticket:", "order:00000000-0000-0000-0000-000000000000", "ticket:1; DROP TABLE tickets"]
        {
            assert_eq!(of_reference(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_id_tells_its_event_and_whether_it_has_a_key(number in 1.., user in any::<u128>(), key in ".{1,50}") {
            let user = Uuid::from_u128(user);
            let (with, without) = (keyed(number, user, &key), fresh(number));
            prop_assert_eq!((number_of(with), number_of(without)), (number, number));
            prop_assert_eq!((is_keyed(with), is_keyed(without)), (true, false));
            prop_assert_eq!(with, keyed(number, user, &key));
            prop_assert_ne!(without, fresh(number));
        }

        #[test]
        fn another_user_or_key_is_another_ticket(users in any::<[u128; 2]>(), keys in any::<[u64; 2]>()) {
            let id = |i: usize, j: usize| keyed(1, Uuid::from_u128(users[i]), &keys[j].to_string());
            prop_assert_eq!(id(0, 0) == id(1, 0), users[0] == users[1]);
            prop_assert_eq!(id(0, 0) == id(0, 1), keys[0] == keys[1]);
        }

        #[test]
        fn a_quantity_is_taken_or_refused_and_never_cut(quantity in any::<i64>()) {
            let sale = Sale {
                id: Uuid::nil(), number: 1, name: String::new(), venue: String::new(), price: 1,
                starts: OffsetDateTime::UNIX_EPOCH, currency: String::new(), capacity: 1, per_user_limit: 1,
                opens: OffsetDateTime::UNIX_EPOCH, closes: OffsetDateTime::UNIX_EPOCH,
                strategy: crate::domain::sale::Strategy::Redis, admission_rate: None,
            };
            match Ask::new(&sale, Uuid::nil(), quantity, None) {
                Ok(ask) => prop_assert_eq!(i64::from(ask.quantity), quantity),
                Err(_) => prop_assert!(quantity < 1 || quantity > i64::from(i32::MAX)),
            }
        }
    }
}
