//! Changes of products as they are committed, by whichever instance: PostgreSQL tells, this passes on.
//! Who listens too slowly is told so and must look again; nobody else waits for them.

use std::time::Duration;

use shop_kit::errors::chain;
use sqlx::postgres::PgListener;
use tokio::{sync::broadcast, time::sleep};
use tracing::warn;

use crate::{
    domain::product::Product,
    store::{CHANNEL, Store, StoreError},
};

const WAITING: usize = 256;
const RETRY: Duration = Duration::from_secs(1);

/// Passes changes on.
pub struct Feed {
    changes: broadcast::Sender<Product>,
}

impl Feed {
    /// A feed that nobody follows yet.
    pub fn new() -> Self {
        Self { changes: broadcast::channel(WAITING).0 }
    }

    /// All changes from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Product> {
        self.changes.subscribe()
    }

    /// Follows the database until dropped.
    pub async fn follow(&self, store: &Store) {
        loop {
            if let Err(error) = self.pass_on(store).await {
                warn!(error = chain(&error), "changes of products are not followed");
            }
            sleep(RETRY).await;
        }
    }

    async fn pass_on(&self, store: &Store) -> Result<(), StoreError> {
        let mut listener = PgListener::connect_with(store.pool()).await?;
        listener.listen(CHANNEL).await?;
        loop {
            let told = listener.recv().await?;
            let Ok(id) = told.payload().parse() else { continue };
            if self.changes.receiver_count() == 0 {
                continue;
            }
            if let Some(product) = store.find(id).await? {
                // Nobody may have stayed to hear it.
                self.changes.send(product).ok();
            }
        }
    }
}

impl Default for Feed {
    fn default() -> Self {
        Self::new()
    }
}
