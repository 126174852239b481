//! Stock that must still be given back to the product service, each claimed by one instance at a time.

use sqlx::{FromRow, PgConnection, Postgres, Transaction, query, query_as};
use uuid::Uuid;

use super::Store;

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

/// Stock that this instance is giving back. Dropped, it is due again at once.
pub struct Claimed {
    /// What is to be given back.
    pub release: Release,
    tx: Transaction<'static, Postgres>,
}

impl Store {
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

/// Plans to give back all that an order took.
pub async fn plan(tx: &mut PgConnection, order: Uuid) -> sqlx::Result<()> {
    let sql = "INSERT INTO releases (order_id, product_id, quantity) \
               SELECT order_id, product_id, quantity FROM order_items WHERE order_id = $1 ON CONFLICT DO NOTHING";
    query(sql).bind(order).execute(tx).await.map(|_| ())
}
