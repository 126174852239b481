//! The way out of a service: events wait in the table `outbox` until they are in their stream.
//!
//! A service writes the event in the transaction of the change; the publisher moves it to Redis afterwards. At least
//! once: after a crash between the two an event may come again, with the same id. Each service that publishes has the
//! table in its migrations:
//!
//! ```sql
//! CREATE TABLE outbox (
//!     position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
//!     id uuid NOT NULL,
//!     stream text NOT NULL,
//!     data jsonb NOT NULL,
//!     traceparent text,
//!     time timestamptz NOT NULL
//! );
//! ```

use std::{sync::Arc, time::Duration};

use ::redis::pipe;
use sqlx::{FromRow, PgConnection, PgPool};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tracing::warn;

use super::{Event, wire};
use crate::{metrics::Metrics, redis::Redis};

const BATCH: i64 = 100;
const POLL_EVERY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// Writes an event into the outbox, in the transaction of the change it tells of.
pub async fn enqueue(tx: &mut PgConnection, event: &Event) -> sqlx::Result<()> {
    sqlx::query("INSERT INTO outbox (id, stream, data, traceparent, time) VALUES ($1, $2, $3, $4, $5)")
        .bind(event.id)
        .bind(&event.stream)
        .bind(&event.data)
        .bind(&event.traceparent)
        .bind(event.time)
        .execute(tx)
        .await
        .map(|_| ())
}

/// Writes events into the outbox in one statement and in their order: for changes of many things at once.
pub async fn enqueue_all(tx: &mut PgConnection, events: &[Event]) -> sqlx::Result<()> {
    let sql = "INSERT INTO outbox (id, stream, data, traceparent, time) \
               SELECT e.id, e.stream, e.data, e.traceparent, e.time \
               FROM unnest($1::uuid[], $2::text[], $3::jsonb[], $4::text[], $5::timestamptz[]) \
               WITH ORDINALITY AS e (id, stream, data, traceparent, time, position) ORDER BY e.position";
    sqlx::query(sql)
        .bind(events.iter().map(|event| event.id).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.stream.clone()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.data.clone()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.traceparent.clone()).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.time).collect::<Vec<_>>())
        .execute(tx)
        .await
        .map(|_| ())
}

/// Why a batch stayed in the outbox.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The outbox cannot be read.
    #[error("reading the outbox")]
    Outbox(#[from] sqlx::Error),
    /// The stream cannot be written.
    #[error("writing the stream")]
    Stream(#[from] ::redis::RedisError),
}

/// Moves events from the outbox to their streams. Any number of instances may run at once.
#[derive(Clone)]
pub struct Publisher {
    pool: PgPool,
    redis: Redis,
    metrics: Metrics,
    wake: Arc<Notify>,
}

impl Publisher {
    /// A publisher of the outbox in that database.
    pub fn new(pool: PgPool, redis: Redis, metrics: Metrics) -> Self {
        Self { pool, redis, metrics, wake: Arc::default() }
    }

    /// Says that there is something in the outbox.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Publishes until dropped. An interrupted batch stays in the outbox.
    pub async fn run(self) {
        let mut retry = Duration::ZERO;
        loop {
            match self.publish_batch().await {
                Ok(moved) if moved == BATCH.unsigned_abs() => {}
                Ok(_) => {
                    retry = Duration::ZERO;
                    // Another instance may have filled the outbox and died, so look now and then.
                    timeout(POLL_EVERY, self.wake.notified()).await.ok();
                }
                Err(error) => {
                    retry = (retry * 2).clamp(Duration::from_millis(100), LAST_RETRY);
                    warn!(error = crate::errors::chain(&error), retry_in = ?retry, "events wait in the outbox");
                    sleep(retry).await;
                }
            }
        }
    }

    /// Publishes up to 100 events and returns how many.
    pub async fn publish_batch(&self) -> Result<u64, PublishError> {
        let mut tx = self.pool.begin().await?;
        let taken = "DELETE FROM outbox WHERE position IN \
             (SELECT position FROM outbox ORDER BY position LIMIT $1 FOR UPDATE SKIP LOCKED) \
             RETURNING position, id, stream, data, traceparent, time";
        let mut rows: Vec<Row> = sqlx::query_as(taken).bind(BATCH).fetch_all(&mut *tx).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        rows.sort_by_key(|row| row.position);
        let mut commands = pipe();
        for row in &rows {
            commands.add_command(wire::append(&row.event)).ignore();
        }
        self.redis.run_all::<()>(&commands).await?;
        tx.commit().await?;
        for row in &rows {
            self.metrics.published(&row.event.stream);
        }
        Ok(rows.len() as u64)
    }
}

#[derive(FromRow)]
struct Row {
    position: i64,
    #[sqlx(flatten)]
    event: Event,
}
