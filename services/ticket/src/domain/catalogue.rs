//! Events as this instance has read them: they never change, so the sale asks PostgreSQL for one once.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use uuid::Uuid;

use super::sale::Sale;
use crate::store::Store;

/// Most events that are kept; one more and all are read again.
const MOST: usize = 10_000;

/// The events.
pub struct Catalogue {
    store: Store,
    kept: RwLock<Kept>,
}

#[derive(Default)]
struct Kept {
    by_id: HashMap<Uuid, Arc<Sale>>,
    by_number: HashMap<i32, Arc<Sale>>,
}

impl Catalogue {
    /// The events of these tables.
    pub fn new(store: Store) -> Self {
        Self { store, kept: RwLock::default() }
    }

    /// The event of that id.
    pub async fn get(&self, id: Uuid) -> sqlx::Result<Option<Arc<Sale>>> {
        if let Some(sale) = self.look(|kept| kept.by_id.get(&id).cloned()) {
            return Ok(Some(sale));
        }
        Ok(self.store.sale(id).await?.map(|sale| self.keep(sale)))
    }

    /// The event of that number.
    pub async fn of_number(&self, number: i32) -> sqlx::Result<Option<Arc<Sale>>> {
        if let Some(sale) = self.look(|kept| kept.by_number.get(&number).cloned()) {
            return Ok(Some(sale));
        }
        Ok(self.store.sale_of_number(number).await?.map(|sale| self.keep(sale)))
    }

    fn look(&self, find: impl FnOnce(&Kept) -> Option<Arc<Sale>>) -> Option<Arc<Sale>> {
        find(&self.kept.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps an event that was read or made.
    pub fn keep(&self, sale: Sale) -> Arc<Sale> {
        let sale = Arc::new(sale);
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        if kept.by_id.len() >= MOST {
            *kept = Kept::default();
        }
        kept.by_id.insert(sale.id, sale.clone());
        kept.by_number.insert(sale.number, sale.clone());
        sale
    }
}
