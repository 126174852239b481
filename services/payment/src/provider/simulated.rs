//! A simulated provider: the world outside, with failures and delays.
//!
//! Its state is in tables of its own (schema `provider`), written through connections of its own and never in a
//! transaction of the payment service: what it did stays done when that service is killed a moment later, and
//! `provider.movements` says which money really moved. It is not a process of its own because a second pod would
//! prove nothing more; its callbacks go over HTTP, signed, as a real provider's would.
//!
//! How it behaves is chosen by the token of the means of payment, as providers offer for tests: see [`react`].

use std::time::Duration;

use sqlx::{FromRow, PgConnection, PgPool, query, query_as};
use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    domain::payment::{Payment, Returned, Verdict},
    provider::{Provider, ProviderError},
};

pub mod callbacks;

/// How long a charge with `tok_slow` takes.
const SLOW: Duration = Duration::from_millis(1500);

/// How the simulation behaves beside what the tokens say.
#[derive(Clone, Copy, Debug)]
pub struct Moods {
    /// How long every call takes.
    pub delay: Duration,
    /// Share of calls that fail, half before they act and half after.
    pub failures: f64,
    /// How long after a charge with `tok_callback` it calls back.
    pub callback_delay: Duration,
}

/// The simulated provider.
pub struct Simulated {
    pool: PgPool,
    moods: Moods,
}

/// What the simulation does with a charge that it did not decide yet.
#[derive(Debug, PartialEq, Eq)]
enum Reaction {
    Capture,
    /// Takes the money, and the answer is lost.
    CaptureInSilence,
    Decline(&'static str),
    CallBackLater,
    Fail,
}

/// The reaction to the n-th charge (from 1) with a token.
fn react(method: &str, call: i32) -> Reaction {
    match method {
        "tok_declined" => Reaction::Decline("card_declined"),
        "tok_insufficient" => Reaction::Decline("insufficient_funds"),
        "tok_timeout" => Reaction::CaptureInSilence,
        "tok_flaky" if call == 1 => Reaction::Fail,
        "tok_ok" | "tok_slow" | "tok_flaky" => Reaction::Capture,
        "tok_callback" | "tok_callback_declined" => Reaction::CallBackLater,
        _ => Reaction::Decline("unknown_method"),
    }
}

#[derive(FromRow)]
struct Charge {
    id: Uuid,
    amount: i64,
    currency: String,
    method: String,
    status: String,
    reason: String,
    calls: i32,
    refunds: i32,
}

impl Charge {
    /// What was decided; nothing for a charge that has only been seen.
    fn verdict(&self) -> Option<Verdict> {
        match self.status.as_str() {
            "captured" | "refunded" => Some(Verdict::Captured),
            "declined" => Some(Verdict::Declined(self.reason.clone())),
            "void" => Some(Verdict::Declined("taken_back".into())),
            "pending" => Some(Verdict::Pending),
            _ => None,
        }
    }
}

impl Simulated {
    /// A provider whose state is in that database.
    pub fn new(pool: PgPool, moods: Moods) -> Self {
        Self { pool, moods }
    }

    /// Runs a call with the moods around it: late, failing before it acts, or with its answer lost.
    async fn moody<T>(
        &self,
        call: impl Future<Output = Result<T, ProviderError>> + Send,
    ) -> Result<T, ProviderError> {
        sleep(self.moods.delay).await;
        let chance = f64::from(u32::from_be_bytes(random())) / f64::from(u32::MAX);
        if chance < self.moods.failures / 2.0 {
            return Err(ProviderError::Failed("503 before it did anything"));
        }
        let answer = call.await?;
        if chance < self.moods.failures {
            return Err(ProviderError::Failed("the connection was lost before the answer"));
        }
        Ok(answer)
    }

    async fn decide(&self, payment: &Payment) -> Result<Verdict, ProviderError> {
        let mut tx = self.pool.begin().await?;
        let mut charge = seen(&mut tx, payment).await?;
        if let Some(verdict) = charge.verdict() {
            return Ok(verdict);
        }
        charge.calls += 1;
        let reaction = react(&charge.method, charge.calls);
        match &reaction {
            Reaction::Capture | Reaction::CaptureInSilence => {
                move_money(&mut tx, &charge, charge.amount).await?;
                charge.status = "captured".into();
            }
            Reaction::Decline(reason) => {
                charge.status = "declined".into();
                charge.reason = (*reason).into();
            }
            Reaction::CallBackLater => {
                charge.status = "pending".into();
                callbacks::plan(&mut tx, charge.id, self.moods.callback_delay).await?;
            }
            Reaction::Fail => {}
        }
        keep(&mut tx, &charge).await?;
        tx.commit().await?;
        match reaction {
            Reaction::CaptureInSilence => std::future::pending().await,
            Reaction::Fail => Err(ProviderError::Failed("503; try again")),
            _ => charge.verdict().ok_or(ProviderError::Failed("nothing was decided")),
        }
    }

    async fn give_back(&self, payment: &Payment) -> Result<Returned, ProviderError> {
        let mut tx = self.pool.begin().await?;
        let mut charge = seen(&mut tx, payment).await?;
        charge.refunds += 1;
        let fails = charge.method == "tok_flaky" && charge.refunds == 1;
        let returned = match charge.status.as_str() {
            _ if fails => Err(ProviderError::Failed("503; try again")),
            "captured" => {
                move_money(&mut tx, &charge, -charge.amount).await?;
                charge.status = "refunded".into();
                Ok(Returned::Money)
            }
            "refunded" => Ok(Returned::Money),
            "declined" => Ok(Returned::Nothing),
            _ => {
                charge.status = "void".into();
                Ok(Returned::Nothing)
            }
        };
        keep(&mut tx, &charge).await?;
        tx.commit().await?;
        returned
    }
}

#[tonic::async_trait]
impl Provider for Simulated {
    async fn charge(&self, payment: &Payment) -> Result<Verdict, ProviderError> {
        if payment.method == "tok_slow" {
            sleep(SLOW).await;
        }
        self.moody(self.decide(payment)).await
    }

    async fn refund(&self, payment: &Payment) -> Result<Returned, ProviderError> {
        self.moody(self.give_back(payment)).await
    }

    async fn look_up(&self, payment: Uuid) -> Result<Option<Verdict>, ProviderError> {
        let found = async {
            let sql = "SELECT * FROM provider.charges WHERE id = $1";
            let charge: Option<Charge> = query_as(sql).bind(payment).fetch_optional(&self.pool).await?;
            Ok(charge.and_then(|charge| charge.verdict()))
        };
        self.moody(found).await
    }
}

/// The charge of a payment, locked; made when it was never heard of.
async fn seen(tx: &mut PgConnection, payment: &Payment) -> sqlx::Result<Charge> {
    let sql = "INSERT INTO provider.charges (id, amount, currency, method, status) VALUES ($1, $2, $3, $4, 'new') \
               ON CONFLICT (id) DO NOTHING";
    let insert = query(sql).bind(payment.id).bind(payment.amount).bind(&payment.currency);
    insert.bind(&payment.method).execute(&mut *tx).await?;
    query_as("SELECT * FROM provider.charges WHERE id = $1 FOR UPDATE").bind(payment.id).fetch_one(tx).await
}

async fn keep(tx: &mut PgConnection, charge: &Charge) -> sqlx::Result<()> {
    let sql = "UPDATE provider.charges SET status = $2, reason = $3, calls = $4, refunds = $5 \
               WHERE id = $1";
    let update = query(sql).bind(charge.id).bind(&charge.status).bind(&charge.reason);
    update.bind(charge.calls).bind(charge.refunds).execute(tx).await.map(|_| ())
}

async fn move_money(tx: &mut PgConnection, charge: &Charge, amount: i64) -> sqlx::Result<()> {
    let sql = "INSERT INTO provider.movements (charge, amount, currency) VALUES ($1, $2, $3)";
    query(sql).bind(charge.id).bind(amount).bind(&charge.currency).execute(tx).await.map(|_| ())
}

fn random() -> [u8; 4] {
    let [a, b, c, d, ..] = *Uuid::new_v4().as_bytes();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_choose_the_reaction() {
        for (method, call, expect) in [
            ("tok_ok", 1, Reaction::Capture),
            ("tok_declined", 1, Reaction::Decline("card_declined")),
            ("tok_timeout", 1, Reaction::CaptureInSilence),
            ("tok_flaky", 1, Reaction::Fail),
            ("tok_flaky", 2, Reaction::Capture),
            ("tok_callback", 1, Reaction::CallBackLater),
            ("4242424242424242", 1, Reaction::Decline("unknown_method")),
        ] {
            assert_eq!(react(method, call), expect, "{method} {call}");
        }
    }
}
