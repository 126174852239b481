//! Orders, stock to give back, and events on their way, in PostgreSQL. Knows tables, not rules.
//! What must happen together is one method and one transaction here.

use shop_kit::{
    events::{self, Event},
    page::Page,
};
use sqlx::{
    FromRow, PgConnection, PgPool, Postgres, Transaction, query, query_as, query_scalar, types::Json,
};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::order::{Item, Order, Status};

/// The query for orders with their items, and the condition on them.
macro_rules! orders_where {
    ($condition:literal) => {
        concat!(
            "SELECT o.id, o.user_id, o.status, o.total, o.currency, o.created, \
             (SELECT json_agg(json_build_object('product_id', i.product_id, 'name', i.name, 'price', i.price, \
             'quantity', i.quantity) ORDER BY i.product_id) FROM order_items i WHERE i.order_id = o.id) AS items \
             FROM orders o WHERE ",
            $condition
        )
    };
}
/// Whether an order could be begun.
#[derive(Debug, PartialEq, Eq)]
pub enum Begun {
    /// It was.
    New,
    /// There is an order of that idempotency key.
    KeyTaken,
}

/// What became of a change of status.
#[derive(Debug)]
pub enum Change {
    /// It was made.
    Done(Order),
    /// The order's status does not allow it.
    Refused(Order),
    /// There is no such order.
    NotFound,
}

/// Stock to give back.
#[derive(Clone, Debug, FromRow)]
pub struct Release {
    /// The order it was taken for.
    pub order_id: Uuid,
    /// The product.
    pub product_id: Uuid,
    /// How many.
    pub quantity: i64,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    user_id: Uuid,
    status: String,
    total: i64,
    currency: String,
    created: OffsetDateTime,
    items: Json<Vec<ItemRow>>,
}

#[derive(serde::Deserialize)]
struct ItemRow {
    product_id: Uuid,
    name: String,
    price: i64,
    quantity: u32,
}

impl Row {
    fn order(self) -> sqlx::Result<Order> {
        let unknown = || sqlx::Error::Decode(format!("unknown status {}", self.status).into());
        let item = |row: ItemRow| Item {
            product_id: row.product_id,
            name: row.name,
            price: row.price,
            quantity: row.quantity,
        };
        Ok(Order {
            id: self.id,
            user_id: self.user_id,
            status: Status::parse(&self.status).ok_or_else(unknown)?,
            items: self.items.0.into_iter().map(item).collect(),
            total: self.total,
            currency: self.currency,
            created: self.created,
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
    pub async fn begin(&self, order: &Order, key: Option<&str>) -> sqlx::Result<Begun> {
        let mut tx = self.pool.begin().await?;
        let sql = "INSERT INTO orders (id, user_id, status, total, currency, idempotency_key, created) \
                   VALUES ($1, $2, 'placing', $3, $4, $5, $6) \
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
        tx.commit().await?;
        Ok(Begun::New)
    }

    /// Makes a placed order visible, together with its event. The error is `None` when it was given up meanwhile.
    pub async fn confirm(&self, order: &Order, event: &Event) -> Result<(), Option<sqlx::Error>> {
        let mut tx = self.pool.begin().await?;
        let sql = "UPDATE orders SET status = 'pending' WHERE id = $1 AND status = 'placing'";
        if query(sql).bind(order.id).execute(&mut *tx).await?.rows_affected() == 0 {
            return Err(None);
        }
        events::enqueue(&mut tx, event).await?;
        Ok(tx.commit().await?)
    }

    /// Marks an order that is being placed as failed and its stock as to be given back; frees its idempotency key.
    /// False when it is not being placed.
    pub async fn fail(&self, id: Uuid) -> sqlx::Result<bool> {
        let mut tx = self.pool.begin().await?;
        let sql = "UPDATE orders SET status = 'failed', idempotency_key = NULL WHERE id = $1 AND status = 'placing'";
        let failed = query(sql).bind(id).execute(&mut *tx).await?.rows_affected() == 1;
        if failed {
            plan_releases(&mut tx, &[id]).await?;
        }
        tx.commit().await?;
        Ok(failed)
    }

    /// Does the same to all that are being placed since before that time, and returns how many.
    pub async fn fail_abandoned(&self, before: OffsetDateTime) -> sqlx::Result<usize> {
        let mut tx = self.pool.begin().await?;
        let sql = "UPDATE orders SET status = 'failed', idempotency_key = NULL WHERE id IN \
                   (SELECT id FROM orders WHERE status = 'placing' AND created < $1 LIMIT 100 FOR UPDATE SKIP LOCKED) \
                   RETURNING id";
        let failed: Vec<Uuid> = query_scalar(sql).bind(before).fetch_all(&mut *tx).await?;
        plan_releases(&mut tx, &failed).await?;
        tx.commit().await?;
        Ok(failed.len())
    }

    /// The order of that id.
    pub async fn find(&self, id: Uuid) -> sqlx::Result<Option<Order>> {
        find(&mut *self.pool.acquire().await?, id).await
    }

    /// The order that a user placed with that key.
    pub async fn find_by_key(&self, user: Uuid, key: &str) -> sqlx::Result<Option<Order>> {
        let sql = orders_where!("o.user_id = $1 AND o.idempotency_key = $2");
        let row: Option<Row> = query_as(sql).bind(user).bind(key).fetch_optional(&self.pool).await?;
        row.map(Row::order).transpose()
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
        Ok((rows.into_iter().map(Row::order).collect::<sqlx::Result<_>>()?, total.unsigned_abs()))
    }

    /// Moves an order to a new status if it may; a cancelled one has its stock to give back from then on.
    pub async fn change_status(&self, id: Uuid, owner: Option<Uuid>, to: Status) -> sqlx::Result<Change> {
        let mut tx = self.pool.begin().await?;
        query("SELECT FROM orders WHERE id = $1 FOR UPDATE").bind(id).execute(&mut *tx).await?;
        let found = find(&mut tx, id).await?.filter(|order| order.status.is_visible());
        let Some(order) = found.filter(|order| owner.is_none_or(|owner| owner == order.user_id)) else {
            return Ok(Change::NotFound);
        };
        if !order.status.may_become(to) {
            return Ok(Change::Refused(order));
        }
        query("UPDATE orders SET status = $2 WHERE id = $1")
            .bind(id)
            .bind(to.as_str())
            .execute(&mut *tx)
            .await?;
        if to == Status::Cancelled {
            plan_releases(&mut tx, &[id]).await?;
        }
        tx.commit().await?;
        Ok(Change::Done(Order { status: to, ..order }))
    }

    /// Claims the next stock that is due to be given back, of one order or any, for this instance only.
    pub async fn claim_release(&self, order: Option<Uuid>) -> sqlx::Result<Option<Claimed>> {
        let mut tx = self.pool.begin().await?;
        let sql = "SELECT order_id, product_id, quantity FROM releases \
                   WHERE due <= now() AND ($1::uuid IS NULL OR order_id = $1) \
                   ORDER BY due LIMIT 1 FOR UPDATE SKIP LOCKED";
        let release: Option<Release> = query_as(sql).bind(order).fetch_optional(&mut *tx).await?;
        Ok(release.map(|release| Claimed { release, tx }))
    }
}

/// Stock that this instance is giving back. Dropped, it is due again at once.
pub struct Claimed {
    /// What is to be given back.
    pub release: Release,
    tx: Transaction<'static, Postgres>,
}

impl Claimed {
    /// It was given back.
    pub async fn done(self) -> sqlx::Result<()> {
        self.end("DELETE FROM releases WHERE order_id = $1 AND product_id = $2").await
    }

    /// It could not be given back and is due again in a while.
    pub async fn later(self) -> sqlx::Result<()> {
        self.end("UPDATE releases SET due = now() + interval '5 s' WHERE order_id = $1 AND product_id = $2")
            .await
    }

    async fn end(mut self, sql: &'static str) -> sqlx::Result<()> {
        query(sql).bind(self.release.order_id).bind(self.release.product_id).execute(&mut *self.tx).await?;
        self.tx.commit().await
    }
}

async fn find(connection: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<Order>> {
    let row: Option<Row> = query_as(orders_where!("o.id = $1")).bind(id).fetch_optional(connection).await?;
    row.map(Row::order).transpose()
}

async fn plan_releases(tx: &mut PgConnection, orders: &[Uuid]) -> sqlx::Result<()> {
    let sql = "INSERT INTO releases (order_id, product_id, quantity) \
               SELECT order_id, product_id, quantity FROM order_items WHERE order_id = ANY($1) \
               ON CONFLICT DO NOTHING";
    query(sql).bind(orders).execute(tx).await.map(|_| ())
}
