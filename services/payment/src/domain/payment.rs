//! What a payment is, what may be asked for, and what follows from what the provider says. Pure: no IO, no clock.

use serde::Serialize;
use shop_kit::errors::FieldError;
use time::OffsetDateTime;
use uuid::Uuid;

/// Ten billion units of a currency with two decimals: sums of many stay far from the end of an i64.
const MOST: i64 = 1_000_000_000_000;
const LONGEST_REFERENCE: usize = 200;
const LONGEST_METHOD: usize = 200;
/// ISO 4217 codes of the currencies that are settled.
const CURRENCIES: [&str; 24] = [
    "AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "INR", "JPY", "KRW", "MXN",
    "NOK", "NZD", "PLN", "RON", "SEK", "SGD", "TRY", "USD", "ZAR",
];

/// Where a payment is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The provider has not said yet.
    Pending,
    /// The shop has the money.
    Captured,
    /// The provider said no.
    Declined,
    /// To be given back; the provider has not confirmed yet.
    Refunding,
    /// Given back, or taken back before it was paid.
    Refunded,
}

impl Status {
    const ALL: [Status; 5] =
        [Status::Pending, Status::Captured, Status::Declined, Status::Refunding, Status::Refunded];

    /// The status as APIs and tables spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Captured => "captured",
            Status::Declined => "declined",
            Status::Refunding => "refunding",
            Status::Refunded => "refunded",
        }
    }

    /// Whether the provider must be asked again.
    pub fn is_open(self) -> bool {
        matches!(self, Status::Pending | Status::Refunding)
    }

    /// Whether a payment may go from this status to the other.
    pub fn may_become(self, next: Status) -> bool {
        matches!(
            (self, next),
            (Status::Pending, Status::Captured | Status::Declined | Status::Refunding)
                | (Status::Captured, Status::Refunding)
                | (Status::Refunding, Status::Refunded)
        )
    }
}

/// A status that no version of this service writes.
#[derive(Debug, thiserror::Error)]
#[error("unknown status {0}")]
pub struct UnknownStatus(String);

impl TryFrom<String> for Status {
    type Error = UnknownStatus;

    fn try_from(text: String) -> Result<Self, UnknownStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or(UnknownStatus(text))
    }
}

/// A payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Payment {
    /// Its id, by which the provider knows it too.
    pub id: Uuid,
    /// What it is for: `order:UUID`. One payment per reference.
    pub reference: String,
    /// Who pays; nobody when it was taken back before it came.
    pub user_id: Option<Uuid>,
    /// In minor units; 0 when it was taken back before it was paid.
    pub amount: i64,
    /// ISO 4217; empty when it was taken back before it came.
    pub currency: String,
    /// Where it is on its way.
    #[sqlx(try_from = "String")]
    pub status: Status,
    /// Why it was declined.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Token of a means of payment. Shown to nobody.
    #[serde(skip)]
    pub method: String,
    /// Whether the provider said that it has the money.
    #[serde(skip)]
    pub captured: bool,
    /// How often the provider was asked again.
    #[serde(skip)]
    pub attempts: i32,
    /// The trace in which it was asked for.
    #[serde(skip)]
    pub traceparent: Option<String>,
    /// When it was first asked for.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// When its status last changed.
    #[serde(with = "time::serde::rfc3339")]
    pub updated: OffsetDateTime,
}

/// What the provider says of a charge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The money was taken.
    Captured,
    /// It will not be taken, and why.
    Declined(String),
    /// Not decided; a callback will tell.
    Pending,
}

/// What the provider says when it gave a payment back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returned {
    /// The money went back.
    Money,
    /// There was nothing to return, and there never will be.
    Nothing,
}

/// Fields that cannot be accepted.
#[derive(Debug, thiserror::Error)]
#[error("{} fields cannot be accepted", .0.len())]
pub struct Invalid(pub Vec<FieldError>);

/// What is asked to be paid.
#[derive(Clone, Debug)]
pub struct Demand {
    /// What it is for.
    pub reference: String,
    /// Who pays.
    pub user_id: Uuid,
    /// In minor units.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// Token of a means of payment, as the provider gave it to the customer.
    pub method: String,
}

impl Demand {
    /// Checks all fields and reports all that are wrong.
    pub fn validate(self) -> Result<Self, Invalid> {
        let known = CURRENCIES.contains(&self.currency.as_str());
        let checks = [
            (is_text(&self.reference, LONGEST_REFERENCE), "reference", REFERENCE),
            ((1..=MOST).contains(&self.amount), "amount", "is 1 to 1000000000000 minor units"),
            (known, "currency", "is the code of a currency that is settled, such as EUR"),
            (is_text(&self.method, LONGEST_METHOD), "method", "needs 1 to 200 characters that can be shown"),
        ];
        let wrong = checks.iter().filter(|(holds, ..)| !holds);
        let wrong: Vec<_> = wrong.map(|(_, field, message)| FieldError::new(*field, *message)).collect();
        if wrong.is_empty() { Ok(self) } else { Err(Invalid(wrong)) }
    }

    /// Checks that a payment of the same reference is what this asks for. Another means of payment is not: the first
    /// one may have been charged.
    pub fn matches(&self, payment: &Payment) -> Result<(), Invalid> {
        let checks = [
            (payment.user_id == Some(self.user_id), "user_id"),
            (payment.amount == self.amount, "amount"),
            (payment.currency == self.currency, "currency"),
        ];
        let message = "is not what it was when this reference was first to be paid";
        let wrong: Vec<_> =
            checks.iter().filter(|(holds, _)| !holds).map(|(_, f)| FieldError::new(*f, message)).collect();
        if wrong.is_empty() { Ok(()) } else { Err(Invalid(wrong)) }
    }
}

const REFERENCE: &str = "needs 1 to 200 characters that can be shown";

/// Checks a reference by itself.
pub fn check_reference(reference: &str) -> Result<(), Invalid> {
    if is_text(reference, LONGEST_REFERENCE) {
        Ok(())
    } else {
        Err(Invalid(vec![FieldError::new("reference", REFERENCE)]))
    }
}

fn is_text(text: &str, longest: usize) -> bool {
    !text.is_empty() && text.len() <= longest && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand() -> Demand {
        Demand {
            reference: "order:1".into(),
            user_id: Uuid::nil(),
            amount: 1,
            currency: "EUR".into(),
            method: "tok_ok".into(),
        }
    }

    #[test]
    fn a_payment_ends_captured_declined_or_refunded() {
        let allowed: Vec<_> = Status::ALL
            .into_iter()
            .flat_map(|from| Status::ALL.map(|to| (from, to)))
            .filter(|(from, to)| from.may_become(*to))
            .map(|(from, to)| format!("{} {}", from.as_str(), to.as_str()))
            .collect();
        let expect = [
            "pending captured",
            "pending declined",
            "pending refunding",
            "captured refunding",
            "refunding refunded",
        ];
        assert_eq!(allowed, expect);
    }

    #[test]
    fn wrong_fields_are_named() {
        for (wrong, expect) in [
            (Demand { amount: 0, ..demand() }, "amount"),
            (Demand { amount: -1, ..demand() }, "amount"),
            (Demand { amount: i64::MAX, ..demand() }, "amount"),
            (Demand { amount: MOST + 1, ..demand() }, "amount"),
            (Demand { currency: "XXX".into(), ..demand() }, "currency"),
            (Demand { currency: "eur".into(), ..demand() }, "currency"),
            (Demand { reference: String::new(), ..demand() }, "reference"),
            (Demand { reference: "a\0b".into(), ..demand() }, "reference"),
            (Demand { method: "x".repeat(201), ..demand() }, "method"),
        ] {
            let Err(Invalid(fields)) = wrong.clone().validate() else { panic!("accepted: {wrong:?}") };
            assert_eq!((fields[0].field.as_str(), fields.len()), (expect, 1), "{wrong:?}");
        }
        assert!(demand().validate().is_ok());
    }
}
