//! The saga of an order: stock is taken, then the customer pays, then the order is paid; or what was done is undone.
//! Decides what follows from what became of a payment. Pure: no IO, no clock.
//!
//! ```text
//! placing ─ stock taken ─▶ pending ─ captured ─▶ paid
//!    │                        │ declined,          │ given back
//!    ▼ no stock               ▼ too late           ▼
//! failed: stock back       cancelled: stock back, payment taken back
//! ```

use std::time::Duration;

use uuid::Uuid;

use crate::domain::order::Status;

const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// What is owed for an order, until somebody has done it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The customer is to pay.
    Pay,
    /// The payment is to be taken back, whether it was made or not.
    Refund,
}

impl Step {
    /// The step as the table spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Pay => "pay",
            Step::Refund => "refund",
        }
    }

    /// The step of that spelling.
    pub fn parse(text: &str) -> Option<Self> {
        [Step::Pay, Step::Refund].into_iter().find(|step| step.as_str() == text)
    }
}

/// What became of a payment, as its service or its event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not known yet.
    Open,
    /// The money is there; no payment was needed when there is no id.
    Captured(Option<Uuid>),
    /// It was declined, and why.
    Declined(String),
    /// It was given back, or will never be made.
    Returned,
}

/// What follows for the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it is not known yet, or has had its effect.
    Nothing,
    /// The order is paid.
    Confirm(Option<Uuid>),
    /// The order is cancelled for this reason, and there is no money to return.
    Cancel(String),
    /// The money came too late: it is to be taken back.
    TakeBack,
    /// What was owed is done.
    Done,
}

/// What follows for an order that stands so, with that step owed.
pub fn after(status: Status, step: Option<Step>, outcome: &Outcome) -> Next {
    match (status, step, outcome) {
        (Status::Pending, Some(Step::Pay), Outcome::Captured(id)) => Next::Confirm(*id),
        (Status::Pending, Some(Step::Pay), Outcome::Declined(reason)) => Next::Cancel(reason.clone()),
        (Status::Pending, Some(Step::Pay), Outcome::Returned) => Next::Cancel("payment_taken_back".into()),
        (Status::Paid, _, Outcome::Returned) => Next::Cancel("payment_refunded".into()),
        (Status::Cancelled, Some(Step::Refund), Outcome::Returned | Outcome::Declined(_)) => Next::Done,
        (Status::Cancelled, None, Outcome::Captured(Some(_))) => Next::TakeBack,
        _ => Next::Nothing,
    }
}

/// How long to leave a step alone that was tried so often.
pub fn backoff(attempts: i32) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or_default().min(10);
    (FIRST_WAIT * 2_u32.pow(doublings)).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payment_has_its_effect_once_and_money_that_is_too_late_goes_back() {
        let id = Some(Uuid::nil());
        let declined = || Outcome::Declined("card_declined".into());
        let (pay, refund) = (Some(Step::Pay), Some(Step::Refund));
        for (status, step, outcome, expect) in [
            (Status::Pending, pay, Outcome::Open, Next::Nothing),
            (Status::Pending, pay, Outcome::Captured(id), Next::Confirm(id)),
            (Status::Pending, pay, declined(), Next::Cancel("card_declined".into())),
            (Status::Pending, pay, Outcome::Returned, Next::Cancel("payment_taken_back".into())),
            // An order that nobody wanted to pay yet is none of the payment's business.
            (Status::Pending, None, Outcome::Captured(id), Next::Nothing),
            (Status::Paid, None, Outcome::Captured(id), Next::Nothing),
            (Status::Paid, None, declined(), Next::Nothing),
            (Status::Paid, None, Outcome::Returned, Next::Cancel("payment_refunded".into())),
            (Status::Cancelled, refund, Outcome::Open, Next::Nothing),
            (Status::Cancelled, refund, Outcome::Captured(id), Next::Nothing),
            (Status::Cancelled, refund, Outcome::Returned, Next::Done),
            (Status::Cancelled, refund, declined(), Next::Done),
            (Status::Cancelled, None, Outcome::Returned, Next::Nothing),
            (Status::Cancelled, None, Outcome::Captured(id), Next::TakeBack),
            // What is on its way stays on its way, though the money went back.
            (Status::Shipped, None, Outcome::Returned, Next::Nothing),
        ] {
            assert_eq!(after(status, step, &outcome), expect, "{status:?} {step:?} {outcome:?}");
        }
    }

    #[test]
    fn a_step_that_fails_is_tried_less_and_less_often() {
        for (attempts, expect) in [(0, 500), (1, 500), (2, 1_000), (8, 60_000), (i32::MAX, 60_000)] {
            assert_eq!(backoff(attempts), Duration::from_millis(expect), "{attempts}");
        }
    }
}
