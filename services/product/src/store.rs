//! Products and stock operations in PostgreSQL, the truth. Cache, lock and feed are beside it, one file each.
//! Knows tables, not rules; that a stock never goes below 0 is the exception, because only the row can promise it.

pub mod cache;
pub mod feed;
pub mod flights;
pub mod lock;
pub mod near;
mod search;

use shop_kit::page::Page;
use sqlx::{FromRow, PgConnection, PgPool, query, query_as, query_scalar};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::product::{Product, StockChange};

/// The channel on which the database tells of changed products.
pub const CHANNEL: &str = "product_changed";

/// Why the store refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such product.
    #[error("no such product")]
    NotFound,
    /// The stock would go below 0.
    #[error("out of stock")]
    OutOfStock,
    /// The stock would be larger than can be counted.
    #[error("too much stock")]
    TooMuch,
    /// The lock that the change was made under ran out, and somebody has had it since.
    #[error("the lock ran out")]
    Outrun,
    /// The operation was made with another change, or was revoked.
    #[error("the operation id is used up")]
    OperationReused,
    /// The database failed.
    #[error(transparent)]
    Database(sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let database = error.as_database_error();
        match database.and_then(sqlx::error::DatabaseError::constraint) {
            Some("stock_operations_product_id_fkey") => StoreError::NotFound,
            // 22003: out of the range of a bigint.
            _ if database.and_then(sqlx::error::DatabaseError::code).as_deref() == Some("22003") => {
                StoreError::TooMuch
            }
            _ => StoreError::Database(error),
        }
    }
}

/// Where products are kept.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
}

#[derive(FromRow)]
struct Operation {
    product_id: Uuid,
    delta: i64,
    revoked: bool,
}

impl Store {
    /// The store in that database.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// The database, for those who listen to it.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The product of that id.
    pub async fn find(&self, id: Uuid) -> Result<Option<Product>, StoreError> {
        Ok(find(&mut *self.pool.acquire().await?, id).await?)
    }

    /// One page of the products that a text finds, and how many there are in all.
    pub async fn search(&self, text: &str, page: Page) -> Result<(Vec<Product>, u64), StoreError> {
        Ok(search::find(&self.pool, text, page).await?)
    }

    /// Keeps a new product.
    pub async fn insert(&self, product: &Product) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        insert(&mut tx, product).await?;
        announce(&mut tx, product.id).await?;
        Ok(tx.commit().await?)
    }

    /// Keeps these products if there are none, and returns how many it kept.
    pub async fn seed(&self, products: &[Product]) -> Result<usize, StoreError> {
        let mut tx = self.pool.begin().await?;
        // Two instances may start at once on the same empty catalogue.
        query("LOCK TABLE products IN EXCLUSIVE MODE").execute(&mut *tx).await?;
        if query_scalar("SELECT EXISTS (SELECT FROM products)").fetch_one(&mut *tx).await? {
            return Ok(0);
        }
        for product in products {
            insert(&mut tx, product).await?;
        }
        tx.commit().await?;
        Ok(products.len())
    }

    /// Makes a change of stock, or takes one back, and tells the feed. With a fencing token the change is refused when
    /// one with a later token was made before.
    pub async fn update_stock(
        &self,
        change: &StockChange,
        fence: Option<i64>,
        now: OffsetDateTime,
    ) -> Result<Product, StoreError> {
        let mut tx = self.pool.begin().await?;
        let delta = match &change.operation {
            None => Some(change.delta),
            Some(id) if change.revoke => revoke(&mut tx, id, change).await?,
            Some(id) => record(&mut tx, id, change).await?,
        };
        let product = match delta {
            Some(delta) => add(&mut tx, change.product_id, (delta, fence), now).await?,
            None => find(&mut tx, change.product_id).await?.ok_or(StoreError::NotFound)?,
        };
        if delta.is_some() {
            announce(&mut tx, product.id).await?;
        }
        tx.commit().await?;
        Ok(product)
    }

    /// Forgets operations made before that time and returns how many.
    pub async fn forget_operations(&self, before: OffsetDateTime) -> Result<u64, StoreError> {
        let done =
            query("DELETE FROM stock_operations WHERE created < $1").bind(before).execute(&self.pool).await?;
        Ok(done.rows_affected())
    }
}

async fn find(connection: &mut PgConnection, id: Uuid) -> sqlx::Result<Option<Product>> {
    query_as("SELECT * FROM products WHERE id = $1").bind(id).fetch_optional(connection).await
}

/// Records an operation. Returns the change that is left to make: none when it was made before.
async fn record(tx: &mut PgConnection, id: &str, change: &StockChange) -> Result<Option<i64>, StoreError> {
    let sql = "INSERT INTO stock_operations (id, product_id, delta, revoked) VALUES ($1, $2, $3, false) \
               ON CONFLICT (id) DO NOTHING";
    let new = query(sql).bind(id).bind(change.product_id).bind(change.delta).execute(&mut *tx).await?;
    if new.rows_affected() == 1 {
        return Ok(Some(change.delta));
    }
    let sql = "SELECT product_id, delta, revoked FROM stock_operations WHERE id = $1";
    let made: Operation = query_as(sql).bind(id).fetch_one(&mut *tx).await?;
    let same = made.product_id == change.product_id && made.delta == change.delta && !made.revoked;
    if same { Ok(None) } else { Err(StoreError::OperationReused) }
}

/// Marks an operation as revoked, known or not. Returns the change that takes it back: none when it has no effect.
async fn revoke(tx: &mut PgConnection, id: &str, change: &StockChange) -> Result<Option<i64>, StoreError> {
    let sql = "INSERT INTO stock_operations (id, product_id, delta, revoked) VALUES ($1, $2, $3, true) \
               ON CONFLICT (id) DO NOTHING";
    let new = query(sql).bind(id).bind(change.product_id).bind(change.delta).execute(&mut *tx).await?;
    if new.rows_affected() == 1 {
        return Ok(None);
    }
    let sql = "UPDATE stock_operations SET revoked = true WHERE id = $1 AND product_id = $2 AND NOT revoked \
               RETURNING delta";
    let made: Option<i64> =
        query_scalar(sql).bind(id).bind(change.product_id).fetch_optional(&mut *tx).await?;
    Ok(made.map(|delta| -delta))
}

/// Adds to a stock, unless it would go below 0.
async fn add(
    tx: &mut PgConnection,
    id: Uuid,
    (delta, fence): (i64, Option<i64>),
    now: OffsetDateTime,
) -> Result<Product, StoreError> {
    let sql = "UPDATE products SET stock = stock + $2, updated = $3, fence = greatest(fence, $4) \
               WHERE id = $1 AND stock + $2 >= 0 AND fence <= coalesce($4, fence) RETURNING *";
    let changed = query_as(sql).bind(id).bind(delta).bind(now).bind(fence);
    let changed: Option<Product> = changed.fetch_optional(&mut *tx).await?;
    if let Some(product) = changed {
        return Ok(product);
    }
    let reason = "SELECT fence > coalesce($2, fence) FROM products WHERE id = $1";
    match query_scalar(reason).bind(id).bind(fence).fetch_optional(tx).await? {
        Some(true) => Err(StoreError::Outrun),
        Some(false) => Err(StoreError::OutOfStock),
        None => Err(StoreError::NotFound),
    }
}

async fn insert(tx: &mut PgConnection, product: &Product) -> sqlx::Result<()> {
    let sql = "INSERT INTO products (id, name, description, price, currency, stock, updated) \
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let insert =
        query(sql).bind(product.id).bind(&product.name).bind(&product.description).bind(product.price);
    insert.bind(&product.currency).bind(product.stock).bind(product.updated).execute(tx).await.map(|_| ())
}

/// Tells all instances, when the transaction commits.
async fn announce(tx: &mut PgConnection, id: Uuid) -> sqlx::Result<()> {
    query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(id.to_string()).execute(tx).await.map(|_| ())
}
