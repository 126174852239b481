//! What can be done with the catalogue: look, search, add, and change the stock.
//! Both APIs call these. The order of the steps around a change of stock is here and nowhere else.

pub mod product;

use std::time::Duration;

use shop_kit::{
    clock,
    errors::{Kind, Problem, chain},
    page::Page,
};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    domain::product::{Invalid, NewProduct, Product, StockChange, seeds},
    store::{Store, StoreError, cache::Cache, feed::Feed, flights::Flights, lock::Lock, near::Near},
};

/// Callers try again for minutes, not for days.
const OPERATIONS_KEPT: Duration = Duration::from_hours(7 * 24);
const FORGET_EVERY: Duration = Duration::from_hours(1);

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Some fields cannot be accepted.
    #[error("invalid input")]
    Invalid(#[from] Invalid),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A load that others waited for too failed.
    #[error(transparent)]
    Load(Problem),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(Invalid(fields)) => Problem::invalid(fields),
            Error::Store(StoreError::NotFound) => {
                Problem::new(Kind::NotFound, "product-not-found", "there is no such product")
            }
            Error::Store(StoreError::OutOfStock) => {
                Problem::new(Kind::Conflict, "out-of-stock", "the stock would go below 0")
            }
            Error::Store(StoreError::TooMuch) => Problem::new(
                Kind::Conflict,
                "too-much-stock",
                "the stock would be larger than can be counted",
            ),
            Error::Store(StoreError::OperationReused) => Problem::new(
                Kind::Conflict,
                "operation-reused",
                "the operation id was used for another change, or was revoked",
            ),
            Error::Store(StoreError::Outrun) => {
                Problem::new(Kind::Conflict, "lock-lost", "the stock was changed meanwhile; try again")
            }
            Error::Store(StoreError::Database(error)) => error.into(),
            Error::Load(problem) => problem,
        }
    }
}

/// The catalogue.
pub struct Products {
    /// Where it is kept.
    pub store: Store,
    /// What is kept in the process.
    pub near: Near,
    /// What is kept in Redis.
    pub cache: Cache,
    /// What is being read from the database.
    pub loads: Flights<Uuid, Result<Product, Problem>>,
    /// Who may change the stock of a product now.
    pub lock: Lock,
    /// Who is told of changes.
    pub feed: Feed,
}

impl Products {
    /// A product: from the process, from Redis, else from the database, and then into both.
    pub async fn get(&self, id: Uuid) -> Result<Product, Error> {
        if let Some(product) = self.near.get(id, Instant::now()) {
            return Ok(product);
        }
        let ticket = self.near.ticket();
        let product = match self.cache.get(id).await {
            Ok(product) => product,
            Err(miss) => {
                let product = self.loads.load(id, find(self.store.clone(), id)).await.map_err(Error::Load)?;
                self.cache.fill(miss, &product).await;
                product
            }
        };
        self.near.put(ticket, &product, Instant::now());
        Ok(product)
    }

    /// The products whose name or description has the text in it, and how many there are in all.
    pub async fn search(&self, text: &str, page: Page) -> Result<(Vec<Product>, u64), Error> {
        // No text in PostgreSQL holds a NUL, so there is nothing to find.
        let text = text.trim();
        if text.contains('\0') { Ok((Vec::new(), 0)) } else { Ok(self.store.search(text, page).await?) }
    }

    /// Adds a product.
    pub async fn add(&self, input: NewProduct) -> Result<Product, Error> {
        let product = input.validate(Uuid::now_v7(), clock::now())?;
        self.store.insert(&product).await?;
        Ok(product)
    }

    /// Changes a stock. The row in the database is what keeps it from going below 0; the lock before it keeps many
    /// changes of one product from holding all connections of the database while they wait for that row.
    pub async fn update_stock(&self, change: StockChange, deadline: Instant) -> Result<Product, Error> {
        let change = change.validate()?;
        match self.update_locked(&change, deadline).await {
            // Our lock ran out and somebody else has had it since: ours is the next turn.
            Err(StoreError::Outrun) => Ok(self.update_locked(&change, deadline).await?),
            updated => Ok(updated?),
        }
    }

    async fn update_locked(&self, change: &StockChange, deadline: Instant) -> Result<Product, StoreError> {
        let held = self.lock.acquire(change.product_id, deadline).await;
        let updated = self.store.update_stock(change, held.token(), clock::now()).await;
        // Also after a failure: the change may have been committed all the same.
        self.near.drop(change.product_id);
        self.cache.drop(change.product_id).await;
        self.lock.release(held).await;
        updated
    }

    /// Fills an empty catalogue.
    pub async fn seed(&self) -> Result<(), Error> {
        let added = self.store.seed(&seeds(clock::now())).await?;
        if added > 0 {
            info!(products = added, "catalogue filled");
        }
        Ok(())
    }

    /// Forgets operations that nobody will send again, now and then.
    pub async fn forget_old_operations(&self) {
        loop {
            match self.store.forget_operations(clock::now() - OPERATIONS_KEPT).await {
                Ok(0) => {}
                Ok(forgotten) => info!(forgotten, "old stock operations forgotten"),
                Err(error) => warn!(error = chain(&error), "old stock operations stay"),
            }
            sleep(FORGET_EVERY).await;
        }
    }
}

async fn find(store: Store, id: Uuid) -> Result<Product, Problem> {
    let found = store.find(id).await.and_then(|found| found.ok_or(StoreError::NotFound));
    found.map_err(|error| Error::from(error).into())
}
