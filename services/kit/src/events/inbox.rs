//! What makes an event that is delivered twice count once: the handler writes its id into the table `inbox` in the
//! transaction of the effect, and leaves the effect out when the id is there already.
//!
//! Only effects in that database are covered; one outside (a mail, a call) needs a name of its own that the other side
//! knows again. Each service that consumes has the table in its migrations:
//!
//! ```sql
//! CREATE TABLE inbox (
//!     consumer text NOT NULL,
//!     event_id uuid NOT NULL,
//!     time timestamptz NOT NULL DEFAULT now(),
//!     PRIMARY KEY (consumer, event_id)
//! );
//! CREATE INDEX inbox_by_age ON inbox (time);
//! ```

use std::time::Duration;

use sqlx::{PgConnection, PgPool, query};
use time::OffsetDateTime;
use tokio::time::sleep;
use tracing::{info, warn};
use uuid::Uuid;

use crate::{clock, errors::chain};

/// An event comes again after minutes, or after the days somebody takes to empty a dead-letter stream.
const KEPT: Duration = Duration::from_hours(30 * 24);
const FORGET_EVERY: Duration = Duration::from_hours(1);

/// Whether this consumer sees the event for the first time. Waits for another transaction that is about to say the
/// same, and is forgotten with the transaction if that is not committed.
pub async fn first_time(tx: &mut PgConnection, consumer: &str, event_id: Uuid) -> sqlx::Result<bool> {
    let sql = "INSERT INTO inbox (consumer, event_id, time) VALUES ($1, $2, now()) ON CONFLICT DO NOTHING";
    let new = query(sql).bind(consumer).bind(event_id).execute(tx).await?;
    Ok(new.rows_affected() == 1)
}

/// Forgets the events seen before that time, and returns how many.
pub async fn forget(pool: &PgPool, before: OffsetDateTime) -> sqlx::Result<u64> {
    let done = query("DELETE FROM inbox WHERE time < $1").bind(before).execute(pool).await?;
    Ok(done.rows_affected())
}

/// Forgets the events of more than 30 days ago, now and then, until dropped.
pub async fn forget_old(pool: PgPool) {
    loop {
        match forget(&pool, clock::now() - KEPT).await {
            Ok(0) => {}
            Ok(forgotten) => info!(forgotten, "old events forgotten"),
            Err(error) => warn!(error = chain(&error), "old events stay in the inbox"),
        }
        sleep(FORGET_EVERY).await;
    }
}
