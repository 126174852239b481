//! Orders in PostgreSQL: their rows, their history, what is owed for them, and events on their way. Knows tables, not
//! rules. What must happen together is one method and one transaction here.
//!
//! `history` holds the facts, `releases` the stock to give back, `steps` what is owed. Every change of an order is a
//! fact: [`record`] applies it, appends it and writes the row, in that order and nowhere else.

/// The query for orders with their items, and the condition on them.
macro_rules! orders_where {
    ($condition:literal) => {
        concat!(
            "SELECT o.id, o.user_id, o.status, o.total, o.currency, o.created, o.version, o.reason, o.method, o.step, \
             o.attempts, coalesce(o.pay_until < now(), false) AS overdue, \
             coalesce((SELECT json_agg(json_build_object('product_id', i.product_id, 'name', i.name, \
             'price', i.price, 'quantity', i.quantity) ORDER BY i.product_id) \
             FROM order_items i WHERE i.order_id = o.id), '[]'::json) AS items FROM orders o WHERE ",
            $condition
        )
    };
}

pub mod history;
pub mod releases;
mod steps;

use std::time::Duration;

use serde_json::json;
use shop_kit::{
    events::{self, Event},
    page::Page,
};
use sqlx::{FromRow, PgConnection, PgPool, query, query_as, query_scalar, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::{
    history::{Broken, Fact},
    order::{Item, Order, Status},
    saga::Step,
};

/// The name under which the inbox remembers events.
pub const CONSUMER: &str = "order";

/// Why the store refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else changed the order since it was read.
    #[error("the order was changed meanwhile")]
    Stale,
    /// The change does not fit the order.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Whether an order could be begun.
#[derive(Debug, PartialEq, Eq)]
pub enum Begun {
    /// It was.
    New,
    /// There is an order of that idempotency key.
    KeyTaken,
}

/// What became of a change that somebody asked for.
#[derive(Debug)]
pub enum Change {
    /// It was made.
    Done(Kept),
    /// The order's status does not allow it.
    Refused(Kept),
    /// There is no such order.
    NotFound,
}

/// An order, and what its row knows beside it.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The order.
    pub order: Order,
    /// How many facts its history has.
    pub version: i32,
    /// What is owed for it.
    pub step: Option<Step>,
    /// Token of the means of payment; nothing when no payment was asked for.
    pub method: Option<String>,
    /// How often the step was tried again.
    pub attempts: i32,
    /// Whether the time to pay it is over.
    pub overdue: bool,
}

/// How and until when an order is to be paid.
#[derive(Clone, Copy, Debug)]
pub struct PayPlan<'a> {
    /// Token of the means of payment.
    pub method: &'a str,
    /// For how long this instance has the step to itself.
    pub lease: Duration,
    /// For how long paying is tried.
    pub within: Duration,
}

/// When something happens, and in which trace.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// The time.
    pub now: OffsetDateTime,
    /// The trace.
    pub traceparent: Option<&'a str>,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    user_id: Uuid,
    status: String,
    total: i64,
    currency: String,
    created: OffsetDateTime,
    version: i32,
    reason: String,
    method: Option<String>,
    step: Option<String>,
    attempts: i32,
    overdue: bool,
    items: Json<Vec<Item>>,
}

impl TryFrom<Row> for Kept {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> sqlx::Result<Self> {
        let unknown = |what: &str| sqlx::Error::Decode(format!("unknown {what}").into());
        let step = row.step.as_deref().map(|text| Step::parse(text).ok_or_else(|| unknown(text)));
        Ok(Self {
            order: Order {
                id: row.id,
                user_id: row.user_id,
                status: Status::parse(&row.status).ok_or_else(|| unknown(&row.status))?,
                items: row.items.0,
                total: row.total,
                currency: row.currency,
                reason: row.reason,
                created: row.created,
            },
            version: row.version,
            step: step.transpose()?,
            method: row.method,
            attempts: row.attempts,
            overdue: row.overdue,
        })
    }
}

/// Where orders are kept.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
}

impl Store {
    /// The store in that database.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Keeps an order that is being placed.
    pub async fn begin(&self, order: &Order, key: Option<&str>) -> Result<Begun, StoreError> {
        let mut tx = self.pool.begin().await?;
        let sql = "INSERT INTO orders (id, user_id, status, total, currency, idempotency_key, created, version) \
                   VALUES ($1, $2, 'placing', $3, $4, $5, $6, 1) \
                   ON CONFLICT ON CONSTRAINT orders_idempotency_key DO NOTHING";
        let insert = query(sql).bind(order.id).bind(order.user_id).bind(order.total).bind(&order.currency);
        if insert.bind(key).bind(order.created).execute(&mut *tx).await?.rows_affected() == 0 {
            return Ok(Begun::KeyTaken);
        }
        for item in &order.items {
            let sql = "INSERT INTO order_items (order_id, product_id, name, price, quantity) VALUES ($1, $2, $3, $4, $5)";
            let insert = query(sql).bind(order.id).bind(item.product_id).bind(&item.name).bind(item.price);
            insert.bind(i64::from(item.quantity)).execute(&mut *tx).await?;
        }
        history::append(&mut tx, order.id, 0, &Fact::Placed(order.clone()), order.created).await?;
        tx.commit().await?;
        Ok(Begun::New)
    }

    /// Makes an order whose stock is taken visible, tells of it, and plans how it is paid if it is to be at once.
    /// Nothing when it was given up meanwhile.
    pub async fn confirm(
        &self,
        id: Uuid,
        plan: Option<PayPlan<'_>>,
        at: Moment<'_>,
    ) -> Result<Option<Kept>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let Some(mut kept) = held(&mut tx, id).await?.filter(|kept| kept.order.status == Status::Placing)
        else {
            return Ok(None);
        };
        record(&mut tx, &mut kept, &Fact::Reserved {}, at.now).await?;
        let order = serde_json::to_value(&kept.order).map_err(|error| sqlx::Error::Encode(error.into()))?;
        tell(&mut tx, "order.created", order, at).await?;
        if let Some(plan) = plan {
            steps::plan_payment(&mut tx, &mut kept, plan, at).await?;
        }
        tx.commit().await?;
        Ok(Some(kept))
    }

    /// Marks an order that is being placed as failed and its stock as to be given back; frees its idempotency key.
    /// False when it is not being placed.
    pub async fn fail(&self, id: Uuid, reason: &str, now: OffsetDateTime) -> Result<bool, StoreError> {
        let mut tx = self.pool.begin().await?;
        let placing = held(&mut tx, id).await?.filter(|kept| kept.order.status == Status::Placing);
        let Some(mut kept) = placing else { return Ok(false) };
        record(&mut tx, &mut kept, &Fact::Failed { reason: reason.into() }, now).await?;
        query("UPDATE orders SET idempotency_key = NULL WHERE id = $1").bind(id).execute(&mut *tx).await?;
        releases::plan(&mut tx, id).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// The orders that are being placed since before that time.
    pub async fn abandoned(&self, before: OffsetDateTime) -> sqlx::Result<Vec<Uuid>> {
        let sql =
            "SELECT id FROM orders WHERE status = 'placing' AND created < $1 ORDER BY created LIMIT 100";
        query_scalar(sql).bind(before).fetch_all(&self.pool).await
    }

    /// The order of that id.
    pub async fn find(&self, id: Uuid) -> sqlx::Result<Option<Kept>> {
        let row: Option<Row> =
            query_as(orders_where!("o.id = $1")).bind(id).fetch_optional(&self.pool).await?;
        row.map(Kept::try_from).transpose()
    }

    /// The order that a user placed with that key.
    pub async fn find_by_key(&self, user: Uuid, key: &str) -> sqlx::Result<Option<Kept>> {
        let sql = orders_where!("o.user_id = $1 AND o.idempotency_key = $2");
        let row: Option<Row> = query_as(sql).bind(user).bind(key).fetch_optional(&self.pool).await?;
        row.map(Kept::try_from).transpose()
    }

    /// One page of a user's visible orders, newest first, and how many there are in all.
    pub async fn list(&self, user: Uuid, page: Page) -> sqlx::Result<(Vec<Order>, u64)> {
        let sql = orders_where!(
            "o.user_id = $1 AND o.status NOT IN ('placing', 'failed') ORDER BY o.created DESC, o.id LIMIT $2 OFFSET $3"
        );
        let found = query_as(sql).bind(user).bind(page.limit()).bind(page.offset());
        let rows: Vec<Row> = found.fetch_all(&self.pool).await?;
        let sql = "SELECT count(*) FROM orders WHERE user_id = $1 AND status NOT IN ('placing', 'failed')";
        let total: i64 = query_scalar(sql).bind(user).fetch_one(&self.pool).await?;
        let orders = rows.into_iter().map(|row| Ok(Kept::try_from(row)?.order));
        Ok((orders.collect::<sqlx::Result<_>>()?, total.unsigned_abs()))
    }

    /// Moves an order on, if it may and nothing is owed for it.
    pub async fn advance(&self, id: Uuid, to: Status, at: Moment<'_>) -> Result<Change, StoreError> {
        let mut tx = self.pool.begin().await?;
        let Some(mut kept) = visible(&mut tx, id, None).await? else { return Ok(Change::NotFound) };
        let fact = match to {
            Status::Paid => Some(Fact::Paid { payment_id: None }),
            Status::Shipped => Some(Fact::Shipped {}),
            Status::Delivered => Some(Fact::Delivered {}),
            _ => None,
        };
        let may = kept.order.status.may_become(to) && kept.step.is_none();
        let Some(fact) = fact.filter(|_| may) else { return Ok(Change::Refused(kept)) };
        record(&mut tx, &mut kept, &fact, at.now).await?;
        if to == Status::Paid {
            tell(&mut tx, "order.paid", summary(&kept.order), at).await?;
        }
        tx.commit().await?;
        Ok(Change::Done(kept))
    }

    /// Cancels an order: its stock is to be given back, and its payment if one was asked for.
    pub async fn cancel(
        &self,
        id: Uuid,
        owner: Option<Uuid>,
        reason: &str,
        at: Moment<'_>,
    ) -> Result<Change, StoreError> {
        let mut tx = self.pool.begin().await?;
        let Some(mut kept) = visible(&mut tx, id, owner).await? else { return Ok(Change::NotFound) };
        if !kept.order.status.may_become(Status::Cancelled) {
            return Ok(Change::Refused(kept));
        }
        let owed = kept.method.is_some().then_some(Step::Refund);
        steps::call_off(&mut tx, &mut kept, (reason, owed), at).await?;
        tx.commit().await?;
        Ok(Change::Done(kept))
    }
}

/// The order of that id, locked until the end of the transaction.
async fn held(tx: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<Kept>> {
    query("SELECT FROM orders WHERE id = $1 FOR UPDATE").bind(id).execute(&mut *tx).await?;
    let row: Option<Row> = query_as(orders_where!("o.id = $1")).bind(id).fetch_optional(tx).await?;
    row.map(Kept::try_from).transpose()
}

/// The same, if somebody sees it and it is the owner's.
async fn visible(tx: &mut PgConnection, id: Uuid, owner: Option<Uuid>) -> sqlx::Result<Option<Kept>> {
    let kept = held(tx, id).await?.filter(|kept| kept.order.status.is_visible());
    Ok(kept.filter(|kept| owner.is_none_or(|owner| owner == kept.order.user_id)))
}

/// Makes a fact of an order true: in the order, in its history and in its row. What was owed for it is settled by it.
async fn record(
    tx: &mut PgConnection,
    kept: &mut Kept,
    fact: &Fact,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    kept.order = fact.apply_to(kept.order.clone())?;
    let expected = kept.version;
    let sql = "UPDATE orders SET status = $3, reason = $4, version = version + 1, step = NULL, due = NULL \
               WHERE id = $1 AND version = $2";
    let update = query(sql).bind(kept.order.id).bind(expected).bind(kept.order.status.as_str());
    if update.bind(&kept.order.reason).execute(&mut *tx).await?.rows_affected() == 0 {
        return Err(StoreError::Stale);
    }
    kept.version = history::append(tx, kept.order.id, expected, fact, now).await?;
    kept.step = None;
    history::keep_snapshot(tx, &kept.order, kept.version).await?;
    Ok(())
}

fn summary(order: &Order) -> serde_json::Value {
    let mut data = json!({
        "order_id": order.id,
        "user_id": order.user_id,
        "total": order.total,
        "currency": order.currency,
    });
    if !order.reason.is_empty() {
        data["reason"] = order.reason.clone().into();
    }
    data
}

/// Tells the others, when the transaction commits.
async fn tell(
    tx: &mut PgConnection,
    stream: &str,
    data: serde_json::Value,
    at: Moment<'_>,
) -> sqlx::Result<()> {
    let event = Event {
        id: Uuid::now_v7(),
        stream: stream.to_owned(),
        data,
        traceparent: at.traceparent.map(str::to_owned),
        time: at.now,
    };
    events::enqueue(tx, &event).await
}
