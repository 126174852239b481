//! What is owed for an order, step by step: leases, and what an answer changes in the order.

use std::time::Duration;

use shop_kit::events;
use sqlx::{PgConnection, query, query_as, query_scalar};
use uuid::Uuid;

use super::{
    CONSUMER, Change, Kept, Moment, PayPlan, Row, Store, StoreError, held, record, releases, summary, tell,
    visible,
};
use crate::domain::{
    history::Fact,
    order::Status,
    saga::{self, Next, Outcome, Step},
};

impl Store {
    /// Plans the payment of an order that is to be paid and is not being paid yet.
    pub async fn request_payment(
        &self,
        id: Uuid,
        owner: Option<Uuid>,
        plan: PayPlan<'_>,
        at: Moment<'_>,
    ) -> Result<Change, StoreError> {
        let mut tx = self.pool.begin().await?;
        let Some(mut kept) = visible(&mut tx, id, owner).await? else { return Ok(Change::NotFound) };
        if kept.order.status != Status::Pending || kept.step.is_some() {
            return Ok(Change::Refused(kept));
        }
        plan_payment(&mut tx, &mut kept, plan, at).await?;
        tx.commit().await?;
        Ok(Change::Done(kept))
    }

    /// Gives up an order that was to be paid and is not. Nothing when it is no longer to be paid.
    pub async fn give_up(&self, id: Uuid, reason: &str, at: Moment<'_>) -> Result<Option<Kept>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let waiting = held(&mut tx, id).await?.filter(|kept| kept.step == Some(Step::Pay));
        let Some(mut kept) = waiting else { return Ok(None) };
        call_off(&mut tx, &mut kept, (reason, Some(Step::Refund)), at).await?;
        tx.commit().await?;
        Ok(Some(kept))
    }

    /// Lets what became of the payment have its effect on the order; once per event, if it is an event that tells of
    /// it. Returns the order as it is then.
    pub async fn settle(
        &self,
        id: Uuid,
        outcome: &Outcome,
        event: Option<Uuid>,
        at: Moment<'_>,
    ) -> Result<Option<Kept>, StoreError> {
        let mut tx = self.pool.begin().await?;
        if let Some(event) = event
            && !events::inbox::first_time(&mut tx, CONSUMER, event).await?
        {
            return Ok(None);
        }
        let Some(mut kept) = held(&mut tx, id).await? else {
            tx.commit().await?;
            return Ok(None);
        };
        match saga::after(kept.order.status, kept.step, outcome) {
            Next::Nothing => {}
            Next::Confirm(payment_id) => {
                record(&mut tx, &mut kept, &Fact::Paid { payment_id }, at.now).await?;
                tell(&mut tx, "order.paid", summary(&kept.order), at).await?;
            }
            Next::Cancel(reason) => call_off(&mut tx, &mut kept, (&reason, None), at).await?,
            Next::TakeBack => owe(&mut tx, &mut kept, Some(Step::Refund), Duration::ZERO).await?,
            Next::Done => owe(&mut tx, &mut kept, None, Duration::ZERO).await?,
        }
        tx.commit().await?;
        Ok(Some(kept))
    }

    /// Leases orders for which something is due to this instance: nobody else takes them up before that time passed.
    pub async fn claim_due(&self, most: i64, lease: Duration) -> sqlx::Result<Vec<Kept>> {
        let mut tx = self.pool.begin().await?;
        let sql = "UPDATE orders SET due = now() + $2, attempts = attempts + 1 WHERE id IN \
                   (SELECT id FROM orders WHERE due <= now() ORDER BY due LIMIT $1 FOR UPDATE SKIP LOCKED) \
                   RETURNING id";
        let due: Vec<Uuid> = query_scalar(sql).bind(most).bind(lease).fetch_all(&mut *tx).await?;
        let rows: Vec<Row> = query_as(orders_where!("o.id = ANY($1)")).bind(&due).fetch_all(&mut *tx).await?;
        tx.commit().await?;
        rows.into_iter().map(Kept::try_from).collect()
    }

    /// Lets a step that is still owed be due after that time.
    pub async fn again_in(&self, id: Uuid, step: Step, wait: Duration) -> sqlx::Result<()> {
        let sql = "UPDATE orders SET due = now() + $3 WHERE id = $1 AND step = $2";
        query(sql).bind(id).bind(step.as_str()).bind(wait).execute(&self.pool).await.map(|_| ())
    }
}

pub(super) async fn plan_payment(
    tx: &mut PgConnection,
    kept: &mut Kept,
    plan: PayPlan<'_>,
    at: Moment<'_>,
) -> Result<(), StoreError> {
    record(tx, kept, &Fact::PaymentRequested {}, at.now).await?;
    let sql = "UPDATE orders SET method = $2, pay_until = now() + $3 WHERE id = $1";
    query(sql).bind(kept.order.id).bind(plan.method).bind(plan.within).execute(&mut *tx).await?;
    kept.method = Some(plan.method.to_owned());
    owe(tx, kept, Some(Step::Pay), plan.lease).await
}

pub(super) async fn call_off(
    tx: &mut PgConnection,
    kept: &mut Kept,
    (reason, owed): (&str, Option<Step>),
    at: Moment<'_>,
) -> Result<(), StoreError> {
    record(tx, kept, &Fact::Cancelled { reason: reason.into() }, at.now).await?;
    releases::plan(tx, kept.order.id).await?;
    owe(tx, kept, owed, Duration::ZERO).await?;
    tell(tx, "order.cancelled", summary(&kept.order), at).await?;
    Ok(())
}

/// Says what is owed for an order from now on, and when it is due.
pub(super) async fn owe(
    tx: &mut PgConnection,
    kept: &mut Kept,
    step: Option<Step>,
    wait: Duration,
) -> Result<(), StoreError> {
    let sql = "UPDATE orders SET step = $2, due = CASE WHEN $2::text IS NULL THEN NULL ELSE now() + $3 END, \
               attempts = 0 WHERE id = $1";
    query(sql).bind(kept.order.id).bind(step.map(Step::as_str)).bind(wait).execute(tx).await?;
    (kept.step, kept.attempts) = (step, 0);
    Ok(())
}
