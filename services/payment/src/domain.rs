//! What can be done with payments: pay, take back, look, hear the provider's callbacks, and settle what is open.
//!
//! The promise, wherever a process dies: a payment is a row before the provider hears of it, and every call of the
//! provider is idempotent by the id of that row. So what is not known is asked again, and a reference is charged once
//! or given back.

pub mod payment;

use std::time::Duration;

use futures_util::future::join_all;
use serde::Deserialize;
use shop_kit::{
    clock,
    cx::Cx,
    errors::{Kind, Problem, chain},
    events::Publisher,
    page::Page,
};
use time::OffsetDateTime;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::{
    domain::payment::{Demand, Invalid, Payment, Returned, Status, Verdict, check_reference},
    provider::{Provider, ProviderError},
    signature::{Forged, Key},
    store::{Begun, Store},
};

const BATCH: i64 = 16;
const CALLBACKS_KEPT: Duration = Duration::from_hours(30 * 24);
const FORGET_EVERY: Duration = Duration::from_hours(1);
const LONGEST_CALLBACK_ID: usize = 200;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Some fields cannot be accepted.
    #[error("invalid input")]
    Invalid(#[from] Invalid),
    /// No such payment, or not the caller's.
    #[error("no such payment")]
    NotFound,
    /// It was taken back and cannot be paid any more.
    #[error("the payment was taken back")]
    TakenBack,
    /// A callback that the provider did not make.
    #[error("a callback is not the provider's")]
    Forged(#[from] Forged),
    /// A callback that cannot be read.
    #[error("a callback cannot be read")]
    Unreadable(#[from] serde_json::Error),
    /// A callback about other money than was asked for.
    #[error("a callback is about another amount")]
    Mismatch,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(Invalid(fields)) => Problem::invalid(fields),
            Error::NotFound => Problem::new(Kind::NotFound, "payment-not-found", "there is no such payment"),
            Error::TakenBack => Problem::new(
                Kind::Conflict,
                "taken-back",
                "the payment of that reference was taken back and cannot be made any more",
            ),
            Error::Forged(forged) => Problem::new(Kind::Unauthenticated, "bad-signature", forged.to_string()),
            Error::Unreadable(error) => Problem::new(Kind::Malformed, "malformed", error.to_string()),
            Error::Mismatch => Problem::new(
                Kind::Conflict,
                "amount-mismatch",
                "the callback is about another amount or currency than the payment",
            ),
            Error::Database(error) => error.into(),
        }
    }
}

/// A callback of the provider, as it is sent.
#[derive(Debug, Deserialize)]
pub struct Callback {
    id: String,
    r#type: CallbackType,
    payment: Uuid,
    amount: i64,
    currency: String,
    #[serde(default)]
    reason: String,
}

#[derive(Debug, Deserialize)]
enum CallbackType {
    #[serde(rename = "charge.captured")]
    Captured,
    #[serde(rename = "charge.declined")]
    Declined,
}

/// The payments.
pub struct Payments {
    /// Where they are kept.
    pub store: Store,
    /// Who takes the money.
    pub provider: Box<dyn Provider>,
    /// Who tells the others.
    pub publisher: Publisher,
    /// What callbacks are signed with.
    pub key: Key,
    /// Longest to wait for the provider.
    pub patience: Duration,
    /// Longest that an open payment is left alone.
    pub longest_wait: Duration,
}

impl Payments {
    /// Pays, or returns the payment that was made under the same reference.
    pub async fn pay(&self, cx: &Cx, demand: Demand) -> Result<Payment, Error> {
        let demand = demand.validate()?;
        let begun = self.store.begin(&demand, cx.traceparent(), clock::now(), self.lease()).await?;
        let payment = match begun {
            Begun::New(payment) => payment,
            Begun::Known(payment) if taken_back(&payment) => return Err(Error::TakenBack),
            Begun::Known(payment) => return Ok(demand.matches(&payment).map(|()| payment)?),
        };
        match self.ask(self.provider.charge(&payment), cx.deadline()).await {
            Ok(verdict) => self.settle(&payment, &verdict).await,
            Err(error) => {
                warn!(payment = %payment.id, error = chain(&error), "a payment waits for the sweeper");
                Ok(payment)
            }
        }
    }

    /// Takes the payment of a reference back, whether it was made or not.
    pub async fn take_back(&self, cx: &Cx, reference: &str) -> Result<Payment, Error> {
        check_reference(reference)?;
        let payment = self.store.take_back(reference, clock::now(), self.lease()).await?;
        if payment.status != Status::Refunding {
            return Ok(payment);
        }
        match self.ask(self.provider.refund(&payment), cx.deadline()).await {
            Ok(returned) => self.returned(&payment, returned).await,
            Err(error) => {
                warn!(payment = %payment.id, error = chain(&error), "a refund waits for the sweeper");
                Ok(payment)
            }
        }
    }

    /// A payment of a user, or of anybody.
    pub async fn get(&self, id: Uuid, owner: Option<Uuid>) -> Result<Payment, Error> {
        let payment = self.store.find(id).await?;
        payment.filter(|p| owner.is_none() || p.user_id == owner).ok_or(Error::NotFound)
    }

    /// The payment of a reference.
    pub async fn get_by_reference(&self, reference: &str) -> Result<Payment, Error> {
        check_reference(reference)?;
        self.store.find_by_reference(reference).await?.ok_or(Error::NotFound)
    }

    /// A user's payments, newest first, and how many there are in all.
    pub async fn list(&self, user: Uuid, page: Page) -> Result<(Vec<Payment>, u64), Error> {
        Ok(self.store.list(user, page).await?)
    }

    /// Hears a callback of the provider. False when it was heard before.
    pub async fn hear(&self, signature: &str, body: &[u8], now: OffsetDateTime) -> Result<bool, Error> {
        self.key.verify(signature, body, now)?;
        let callback: Callback = serde_json::from_slice(body)?;
        if callback.id.is_empty() || callback.id.len() > LONGEST_CALLBACK_ID || callback.id.contains('\0') {
            return Err(Error::NotFound);
        }
        let payment = self.store.find(callback.payment).await?.ok_or(Error::NotFound)?;
        if (callback.amount, &callback.currency) != (payment.amount, &payment.currency) {
            // A payment that was voided has amount 0, and nothing is left to tell of it.
            if payment.status == Status::Refunded {
                return Ok(false);
            }
            error!(payment = %payment.id, amount = callback.amount, "the provider tells of another amount");
            return Err(Error::Mismatch);
        }
        let verdict = match callback.r#type {
            CallbackType::Captured => Verdict::Captured,
            CallbackType::Declined => Verdict::Declined(callback.reason),
        };
        let new = self.store.hear(&callback.id, payment.id, &verdict, now).await?;
        self.publisher.wake();
        Ok(new)
    }

    /// Settles what is open by asking the provider, until dropped.
    pub async fn sweep(&self, every: Duration) {
        let mut tick = interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            match self.store.claim_due(BATCH, self.lease()).await {
                Ok(due) => drop(join_all(due.iter().map(|payment| self.resume(payment))).await),
                Err(error) => warn!(error = chain(&error), "open payments wait"),
            }
        }
    }

    /// Takes up a payment where it was left.
    async fn resume(&self, payment: &Payment) {
        let settled = match payment.status {
            Status::Refunding => self.resume_refund(payment).await,
            _ => self.resume_charge(payment).await,
        };
        let why = match settled {
            Ok(after) if !after.status.is_open() => {
                info!(payment = %payment.id, status = after.status.as_str(), "an open payment is settled");
                return;
            }
            Ok(_) => "the provider has not decided yet".to_owned(),
            Err(why) => why,
        };
        let wait = backoff(payment.attempts, self.longest_wait);
        warn!(payment = %payment.id, why, again_in = ?wait, "a payment stays open");
        if let Err(error) = self.store.again_in(payment, wait).await {
            warn!(payment = %payment.id, error = chain(&error), "it is due when its lease ends");
        }
    }

    async fn resume_charge(&self, payment: &Payment) -> Result<Payment, String> {
        let known = self.ask(self.provider.look_up(payment.id), self.soon()).await;
        let verdict = if let Some(verdict) = known.map_err(|error| chain(&error))? {
            verdict
        } else {
            // It never arrived, or came to nothing: then it is made now.
            let charged = self.ask(self.provider.charge(payment), self.soon()).await;
            charged.map_err(|error| chain(&error))?
        };
        self.settle(payment, &verdict).await.map_err(|error| chain(&error))
    }

    async fn resume_refund(&self, payment: &Payment) -> Result<Payment, String> {
        let returned = self.ask(self.provider.refund(payment), self.soon()).await;
        let returned = returned.map_err(|error| chain(&error))?;
        self.returned(payment, returned).await.map_err(|error| chain(&error))
    }

    /// Forgets callbacks that cannot come again, now and then.
    pub async fn forget_old_callbacks(&self) {
        let mut tick = interval(FORGET_EVERY);
        loop {
            tick.tick().await;
            if let Err(error) = self.store.forget_callbacks(clock::now() - CALLBACKS_KEPT).await {
                warn!(error = chain(&error), "old callbacks stay");
            }
        }
    }

    async fn settle(&self, payment: &Payment, verdict: &Verdict) -> Result<Payment, Error> {
        let settled = self.store.settle(payment.id, verdict, clock::now()).await?;
        self.publisher.wake();
        Ok(settled)
    }

    async fn returned(&self, payment: &Payment, returned: Returned) -> Result<Payment, Error> {
        let settled = self.store.returned(payment.id, returned, clock::now()).await?;
        self.publisher.wake();
        Ok(settled)
    }

    /// Waits for the provider, but not for long, and not past the deadline.
    async fn ask<T>(
        &self,
        call: impl Future<Output = Result<T, ProviderError>>,
        deadline: Instant,
    ) -> Result<T, ProviderError> {
        let left = deadline.saturating_duration_since(Instant::now()).min(self.patience);
        timeout(left, call).await.unwrap_or(Err(ProviderError::Late))
    }

    fn soon(&self) -> Instant {
        Instant::now() + self.patience
    }

    /// How long a payment is in the hands of who began it: longer than two calls of the provider.
    fn lease(&self) -> Duration {
        self.patience * 2 + Duration::from_secs(1)
    }
}

fn taken_back(payment: &Payment) -> bool {
    matches!(payment.status, Status::Refunding | Status::Refunded)
}

/// How long to leave an open payment alone after so many attempts.
fn backoff(attempts: i32, longest: Duration) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or_default().min(10);
    (Duration::from_millis(250) * 2_u32.pow(doublings)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payment_that_stays_open_is_asked_about_less_and_less_often() {
        for (attempts, expect) in [(0, 250), (1, 250), (2, 500), (5, 4_000), (9, 60_000), (i32::MAX, 60_000)]
        {
            let wait = backoff(attempts, Duration::from_mins(1));
            assert_eq!(wait, Duration::from_millis(expect), "{attempts}");
        }
    }
}
