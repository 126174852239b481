//! Events that are published if, and only if, the change they tell of was committed.
//!
//! A service writes the event into the table `outbox` in the transaction of the change; a publisher moves it to a
//! Redis Stream afterwards. At least once: an event may come again after a crash, with the same id. Reading streams
//! is not here yet.

use std::{sync::Arc, time::Duration};

use ::redis::{cmd, pipe, streams::StreamMaxlen};
use serde_json::Value;
use sqlx::{FromRow, PgConnection, PgPool};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tracing::warn;
use uuid::Uuid;

use crate::{metrics::Metrics, redis::Redis};

const BATCH: i64 = 100;
const POLL_EVERY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(5);
const STREAM_LENGTH: usize = 100_000;

/// Something that happened.
#[derive(Clone, Debug, FromRow)]
pub struct Event {
    /// The same however often the event is delivered.
    pub id: Uuid,
    /// The stream it goes to, which is also its type: `order.created`.
    pub stream: String,
    /// What happened.
    pub data: Value,
    /// The trace it happened in.
    pub traceparent: Option<String>,
    /// When.
    pub time: OffsetDateTime,
}

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
            commands.add_command(append(&row.event)).ignore();
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

fn append(event: &Event) -> ::redis::Cmd {
    let mut command = cmd("XADD");
    command.arg(&event.stream).arg(StreamMaxlen::Approx(STREAM_LENGTH)).arg("*");
    command.arg("id").arg(event.id.to_string()).arg("type").arg(&event.stream);
    command.arg("time").arg(event.time.format(&Rfc3339).unwrap_or_default());
    command.arg("data").arg(event.data.to_string());
    if let Some(traceparent) = &event.traceparent {
        command.arg("traceparent").arg(traceparent);
    }
    command
}
