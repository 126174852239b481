//! Seats that became free in PostgreSQL and that Redis has not been told of yet.

use sqlx::{Postgres, Transaction, query, query_scalar};
use uuid::Uuid;

use super::Store;

const AT_ONCE: i64 = 500;

/// Tickets whose seats this instance is giving back. Dropped, they are due again at once.
pub struct Claimed {
    /// The tickets.
    pub tickets: Vec<Uuid>,
    tx: Transaction<'static, Postgres>,
}

impl Store {
    /// Claims seats that are due to be given back, of one ticket or any, for this instance only.
    pub async fn claim_releases(&self, ticket: Option<Uuid>) -> sqlx::Result<Claimed> {
        let mut tx = self.pool.begin().await?;
        let sql = "SELECT ticket_id FROM releases WHERE $1::uuid IS NULL OR ticket_id = $1 \
                   ORDER BY due LIMIT $2 FOR UPDATE SKIP LOCKED";
        let tickets = query_scalar(sql).bind(ticket).bind(AT_ONCE).fetch_all(&mut *tx).await?;
        Ok(Claimed { tickets, tx })
    }
}

impl Claimed {
    /// Redis has been told of all of them.
    pub async fn done(mut self) -> sqlx::Result<()> {
        let delete = query("DELETE FROM releases WHERE ticket_id = ANY($1)").bind(self.tickets);
        delete.execute(&mut *self.tx).await?;
        self.tx.commit().await
    }
}
