//! The facts of an order in their table, and the fold of the first of them beside it.

use serde_json::{Value, json};
use sqlx::{FromRow, PgConnection, query, query_as, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::{
    history::{Fact, Recorded, SNAPSHOT_EVERY, replay},
    order::Order,
};

#[derive(FromRow)]
struct Row {
    version: i32,
    r#type: String,
    data: Value,
    time: OffsetDateTime,
}

#[derive(FromRow)]
struct Snapshot {
    version: i32,
    state: Json<Order>,
}

impl TryFrom<Row> for Recorded {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> sqlx::Result<Self> {
        let fact = serde_json::from_value(json!({"type": row.r#type, "data": row.data}));
        let fact = fact.map_err(|error| sqlx::Error::Decode(error.into()))?;
        Ok(Self { version: row.version, fact, time: row.time })
    }
}

/// Appends a fact to a history that has so many, and returns how many it has then. Refused when it has others.
pub async fn append(
    tx: &mut PgConnection,
    order: Uuid,
    expected: i32,
    fact: &Fact,
    now: OffsetDateTime,
) -> Result<i32, StoreError> {
    let mut written = serde_json::to_value(fact).map_err(|error| sqlx::Error::Encode(error.into()))?;
    let sql = "INSERT INTO order_events (order_id, version, type, data, time) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (order_id, version) DO NOTHING";
    let insert = query(sql).bind(order).bind(expected + 1).bind(written["type"].as_str());
    let appended = insert.bind(written["data"].take()).bind(now).execute(tx).await?;
    if appended.rows_affected() == 1 { Ok(expected + 1) } else { Err(StoreError::Stale) }
}

/// Keeps an order as it is after that version, every now and then.
pub async fn keep_snapshot(tx: &mut PgConnection, order: &Order, version: i32) -> sqlx::Result<()> {
    if version % SNAPSHOT_EVERY != 0 {
        return Ok(());
    }
    let sql = "INSERT INTO order_snapshots (order_id, version, state) VALUES ($1, $2, $3) \
               ON CONFLICT (order_id) DO UPDATE SET version = excluded.version, state = excluded.state";
    query(sql).bind(order.id).bind(version).bind(Json(order)).execute(tx).await.map(|_| ())
}

impl Store {
    /// The whole history of an order.
    pub async fn history(&self, id: Uuid) -> sqlx::Result<Vec<Recorded>> {
        facts_since(&mut *self.pool.acquire().await?, id, 0).await
    }

    /// The order that its history tells of: the last snapshot, and what happened since.
    pub async fn replayed(&self, id: Uuid) -> Result<Option<Order>, StoreError> {
        let mut tx = self.pool.begin().await?;
        let sql = "SELECT version, state FROM order_snapshots WHERE order_id = $1";
        let snapshot: Option<Snapshot> = query_as(sql).bind(id).fetch_optional(&mut *tx).await?;
        let (version, known) =
            snapshot.map_or((0, None), |snapshot| (snapshot.version, Some(snapshot.state.0)));
        let since = facts_since(&mut tx, id, version).await?;
        Ok(replay(known, since.iter().map(|recorded| &recorded.fact))?)
    }
}

async fn facts_since(connection: &mut PgConnection, id: Uuid, version: i32) -> sqlx::Result<Vec<Recorded>> {
    let sql = "SELECT version, type, data, time FROM order_events WHERE order_id = $1 AND version > $2 \
               ORDER BY version";
    let rows: Vec<Row> = query_as(sql).bind(id).bind(version).fetch_all(connection).await?;
    rows.into_iter().map(Recorded::try_from).collect()
}
