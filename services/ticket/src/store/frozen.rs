//! The tickets of one event while nothing about its seats can change: its row is locked, and the trigger that counts
//! seats waits for that lock.

use std::collections::HashSet;

use sqlx::{FromRow, Postgres, Transaction, query_as, query_scalar};
use time::OffsetDateTime;
use uuid::Uuid;

use super::Store;
use crate::domain::{sale::Sale, ticket::Hold};

/// An event that stands still until this is dropped.
pub struct Frozen {
    /// How many seats its row says are taken.
    pub taken: i32,
    /// The tickets that take seats.
    pub holds: Vec<Hold>,
    /// The tickets that ended and that an idempotency key may name again.
    pub ended: Vec<Uuid>,
    /// Tickets whose seats Redis may not know to be free yet.
    pub releasing: HashSet<Uuid>,
    tx: Transaction<'static, Postgres>,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    user_id: Uuid,
    quantity: i32,
    expires: OffsetDateTime,
    created: OffsetDateTime,
}

impl Store {
    /// Stops an event and reads its tickets.
    pub async fn freeze(&self, sale: &Sale) -> sqlx::Result<Frozen> {
        let mut tx = self.pool.begin().await?;
        let lock = query_scalar("SELECT taken FROM events WHERE id = $1 FOR UPDATE").bind(sale.id);
        let taken = lock.fetch_one(&mut *tx).await?;
        let sql =
            "SELECT id, user_id, quantity, expires, created FROM tickets WHERE event_id = $1 AND seats > 0";
        let rows: Vec<Row> = query_as(sql).bind(sale.id).fetch_all(&mut *tx).await?;
        let hold = |Row { id, user_id, quantity, expires, created }| Hold {
            id,
            user_id,
            quantity,
            expires,
            created,
        };
        // The version of an id says whether it was made of a key (see `domain::ticket`).
        let sql = "SELECT id FROM tickets WHERE event_id = $1 AND seats = 0 AND substring(id::text FROM 15 FOR 1) = '8'";
        let ended = query_scalar(sql).bind(sale.id).fetch_all(&mut *tx).await?;
        let sql =
            "SELECT r.ticket_id FROM releases r JOIN tickets t ON t.id = r.ticket_id WHERE t.event_id = $1";
        let releasing: Vec<Uuid> = query_scalar(sql).bind(sale.id).fetch_all(&mut *tx).await?;
        let holds = rows.into_iter().map(hold).collect();
        Ok(Frozen { taken, holds, ended, releasing: releasing.into_iter().collect(), tx })
    }
}

impl Frozen {
    /// Those of these tickets that are written down, whatever became of them.
    pub async fn written(&mut self, tickets: Vec<Uuid>) -> sqlx::Result<HashSet<Uuid>> {
        let found = query_scalar("SELECT id FROM tickets WHERE id = ANY($1)").bind(tickets);
        let found: Vec<Uuid> = found.fetch_all(&mut *self.tx).await?;
        Ok(found.into_iter().collect())
    }

    /// Lets it go on.
    pub async fn thaw(self) -> sqlx::Result<()> {
        self.tx.commit().await
    }
}
