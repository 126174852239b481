//! Payments, callbacks that were heard, and events on their way, in PostgreSQL. Knows tables, not providers.
//! What must happen together is one method and one transaction here.

use std::time::Duration;

use serde_json::json;
use shop_kit::{
    events::{self, Event},
    page::Page,
};
use sqlx::{PgConnection, PgPool, query, query_as, query_scalar};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::payment::{Demand, Payment, Returned, Status, Verdict};

/// Where payments are kept.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
}

/// Whether a payment could be begun.
#[derive(Debug)]
pub enum Begun {
    /// It was.
    New(Payment),
    /// There is one of that reference.
    Known(Payment),
}

impl Store {
    /// The store in that database.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Keeps a new payment as pending, which the sweeper takes up after that time.
    pub async fn begin(
        &self,
        demand: &Demand,
        traceparent: Option<&str>,
        now: OffsetDateTime,
        lease: Duration,
    ) -> sqlx::Result<Begun> {
        let sql = "INSERT INTO payments \
                   (id, reference, user_id, amount, currency, method, status, due, traceparent, created, updated) \
                   VALUES ($1, $2, $3, $4, $5, $6, 'pending', now() + $7, $8, $9, $9) \
                   ON CONFLICT ON CONSTRAINT payments_reference DO NOTHING RETURNING *";
        let insert = query_as(sql).bind(Uuid::now_v7()).bind(&demand.reference).bind(demand.user_id);
        let insert = insert.bind(demand.amount).bind(&demand.currency).bind(&demand.method).bind(lease);
        match insert.bind(traceparent).bind(now).fetch_optional(&self.pool).await? {
            Some(new) => Ok(Begun::New(new)),
            None => by_reference(&self.pool, &demand.reference).await.map(Begun::Known),
        }
    }

    /// Takes a payment back: one that was never asked for is refused from now on, one that may have been charged is to
    /// be given back by whoever asks the provider before that time has passed.
    pub async fn take_back(
        &self,
        reference: &str,
        now: OffsetDateTime,
        lease: Duration,
    ) -> sqlx::Result<Payment> {
        let mut tx = self.pool.begin().await?;
        let sql = "INSERT INTO payments (id, reference, amount, currency, method, status, created, updated) \
                   VALUES ($1, $2, 0, '', '', 'refunded', $3, $3) \
                   ON CONFLICT ON CONSTRAINT payments_reference DO NOTHING";
        query(sql).bind(Uuid::now_v7()).bind(reference).bind(now).execute(&mut *tx).await?;
        let sql = "SELECT * FROM payments WHERE reference = $1 FOR UPDATE";
        let mut payment: Payment = query_as(sql).bind(reference).fetch_one(&mut *tx).await?;
        if payment.status.may_become(Status::Refunding) {
            let sql = "UPDATE payments SET status = 'refunding', due = now() + $2, attempts = 0, updated = $3 \
                       WHERE id = $1 RETURNING *";
            payment = query_as(sql).bind(payment.id).bind(lease).bind(now).fetch_one(&mut *tx).await?;
        }
        tx.commit().await?;
        Ok(payment)
    }

    /// Records what the provider said of a charge, and tells the others. Without effect when it is known already.
    pub async fn settle(&self, id: Uuid, verdict: &Verdict, now: OffsetDateTime) -> sqlx::Result<Payment> {
        let mut tx = self.pool.begin().await?;
        let payment = locked(&mut tx, id).await?;
        let settled = settle(&mut tx, payment, verdict, now).await?;
        tx.commit().await?;
        Ok(settled)
    }

    /// Does the same because of a callback, once per callback. False when that callback was heard before.
    pub async fn hear(
        &self,
        callback: &str,
        id: Uuid,
        verdict: &Verdict,
        now: OffsetDateTime,
    ) -> sqlx::Result<bool> {
        let mut tx = self.pool.begin().await?;
        let sql = "INSERT INTO callbacks (id, time) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        let new = query(sql).bind(callback).bind(now).execute(&mut *tx).await?.rows_affected() == 1;
        if new {
            let payment = locked(&mut tx, id).await?;
            settle(&mut tx, payment, verdict, now).await?;
            tx.commit().await?;
        }
        Ok(new)
    }

    /// Records that the provider gave a payment back, and tells the others if money moved.
    pub async fn returned(&self, id: Uuid, returned: Returned, now: OffsetDateTime) -> sqlx::Result<Payment> {
        let mut tx = self.pool.begin().await?;
        let before = locked(&mut tx, id).await?;
        if !before.status.may_become(Status::Refunded) {
            return Ok(before);
        }
        let sql = "UPDATE payments SET status = 'refunded', amount = $2, captured = $3, due = NULL, updated = $4 \
                   WHERE id = $1 RETURNING *";
        let money = returned == Returned::Money;
        let update = query_as(sql).bind(id).bind(if money { before.amount } else { 0 }).bind(money);
        let payment: Payment = update.bind(now).fetch_one(&mut *tx).await?;
        if money {
            // It was taken back before anybody was told of the money; books need both sides.
            if !before.captured {
                tell(&mut tx, "payment.captured", &payment).await?;
            }
            tell(&mut tx, "payment.refunded", &payment).await?;
        }
        tx.commit().await?;
        Ok(payment)
    }

    /// Leases payments that are due to this instance: nobody else takes them up before that time has passed.
    pub async fn claim_due(&self, most: i64, lease: Duration) -> sqlx::Result<Vec<Payment>> {
        let sql = "UPDATE payments SET due = now() + $2, attempts = attempts + 1 WHERE id IN \
                   (SELECT id FROM payments WHERE due <= now() ORDER BY due LIMIT $1 FOR UPDATE SKIP LOCKED) \
                   RETURNING *";
        query_as(sql).bind(most).bind(lease).fetch_all(&self.pool).await
    }

    /// Lets a payment that is still open be due again after that time.
    pub async fn again_in(&self, payment: &Payment, wait: Duration) -> sqlx::Result<()> {
        let sql = "UPDATE payments SET due = now() + $3 WHERE id = $1 AND status = $2";
        query(sql)
            .bind(payment.id)
            .bind(payment.status.as_str())
            .bind(wait)
            .execute(&self.pool)
            .await
            .map(|_| ())
    }

    /// The payment of that id.
    pub async fn find(&self, id: Uuid) -> sqlx::Result<Option<Payment>> {
        query_as("SELECT * FROM payments WHERE id = $1").bind(id).fetch_optional(&self.pool).await
    }

    /// The payment of that reference.
    pub async fn find_by_reference(&self, reference: &str) -> sqlx::Result<Option<Payment>> {
        let sql = "SELECT * FROM payments WHERE reference = $1";
        query_as(sql).bind(reference).fetch_optional(&self.pool).await
    }

    /// One page of a user's payments, newest first, and how many there are in all.
    pub async fn list(&self, user: Uuid, page: Page) -> sqlx::Result<(Vec<Payment>, u64)> {
        let sql = "SELECT * FROM payments WHERE user_id = $1 ORDER BY created DESC, id LIMIT $2 OFFSET $3";
        let found = query_as(sql).bind(user).bind(page.limit()).bind(page.offset());
        let found = found.fetch_all(&self.pool).await?;
        let sql = "SELECT count(*) FROM payments WHERE user_id = $1";
        let total: i64 = query_scalar(sql).bind(user).fetch_one(&self.pool).await?;
        Ok((found, total.unsigned_abs()))
    }

    /// Forgets callbacks heard before that time: their signatures have long ended.
    pub async fn forget_callbacks(&self, before: OffsetDateTime) -> sqlx::Result<u64> {
        let done = query("DELETE FROM callbacks WHERE time < $1").bind(before).execute(&self.pool).await?;
        Ok(done.rows_affected())
    }
}

async fn by_reference(pool: &PgPool, reference: &str) -> sqlx::Result<Payment> {
    query_as("SELECT * FROM payments WHERE reference = $1").bind(reference).fetch_one(pool).await
}

async fn locked(tx: &mut PgConnection, id: Uuid) -> sqlx::Result<Payment> {
    query_as("SELECT * FROM payments WHERE id = $1 FOR UPDATE").bind(id).fetch_one(tx).await
}

async fn settle(
    tx: &mut PgConnection,
    payment: Payment,
    verdict: &Verdict,
    now: OffsetDateTime,
) -> sqlx::Result<Payment> {
    let (to, reason) = match verdict {
        Verdict::Captured => (Status::Captured, ""),
        Verdict::Declined(reason) => (Status::Declined, reason.as_str()),
        Verdict::Pending => return Ok(payment),
    };
    // Known already, or to be given back: then giving it back finds out what there is to return.
    if !payment.status.may_become(to) {
        return Ok(payment);
    }
    let sql = "UPDATE payments SET status = $2, reason = $3, captured = $4, due = NULL, updated = $5 \
               WHERE id = $1 RETURNING *";
    let update = query_as(sql).bind(payment.id).bind(to.as_str()).bind(reason);
    let settled: Payment = update.bind(to == Status::Captured).bind(now).fetch_one(&mut *tx).await?;
    tell(tx, &format!("payment.{}", to.as_str()), &settled).await?;
    Ok(settled)
}

async fn tell(tx: &mut PgConnection, stream: &str, payment: &Payment) -> sqlx::Result<()> {
    let mut data = json!({
        "payment_id": payment.id,
        "reference": payment.reference,
        "user_id": payment.user_id,
        "amount": payment.amount,
        "currency": payment.currency,
    });
    if !payment.reason.is_empty() {
        data["reason"] = payment.reason.clone().into();
    }
    let event = Event {
        id: Uuid::now_v7(),
        stream: stream.to_owned(),
        data,
        traceparent: payment.traceparent.clone(),
        time: payment.updated,
    };
    events::enqueue(tx, &event).await
}
