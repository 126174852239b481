//! Rooms, messages and how far users have read, in PostgreSQL. Knows tables, not rules.
//!
//! The id of a message is counted up in its room by the statement that inserts it, under the lock of the room's row and
//! until it is committed. So ids have no holes, and who sees one message sees all before it.

use shop_kit::errors::chain;
use sqlx::{PgPool, query, query_as, query_scalar};
use tracing::warn;
use uuid::Uuid;

use crate::domain::{
    frame::{Message, MessageId, Person},
    room::Room,
};

/// The columns of a message, and the condition on them.
macro_rules! messages {
    ($rest:literal) => {
        concat!("SELECT id, user_id, user_name, client_id, text, time FROM messages WHERE room = $1 ", $rest)
    };
}

/// A message to store.
#[derive(Debug)]
pub struct Draft<'a> {
    /// Where.
    pub room: &'a Room,
    /// By whom.
    pub author: &'a Person,
    /// What their client calls it.
    pub client_id: &'a str,
    /// What they wrote.
    pub text: &'a str,
}

/// What became of a message.
#[derive(Debug, PartialEq)]
pub enum Stored {
    /// It is stored now.
    New(Message),
    /// It was stored before.
    Before(MessageId),
}

/// Where a user stands in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Standing {
    /// The newest message of the room.
    pub last: MessageId,
    /// The last one that the user acknowledged.
    pub acked: Option<MessageId>,
}

/// How far a user has read in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The room.
    pub room: Room,
    /// The user.
    pub user: Uuid,
    /// Up to this one.
    pub id: MessageId,
}

/// Where all this is kept.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
}

impl Store {
    /// The store in that database.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Stores a message, once.
    pub async fn insert(&self, draft: &Draft<'_>) -> sqlx::Result<Stored> {
        // One statement, so one round trip and one transaction. The time is taken under the lock: it rises with the id.
        let sql = "WITH counted AS (INSERT INTO rooms AS r (name, last_id) VALUES ($1, 1) \
                   ON CONFLICT (name) DO UPDATE SET last_id = r.last_id + 1 RETURNING last_id) \
                   INSERT INTO messages (room, id, user_id, user_name, client_id, text, time) \
                   SELECT $1, last_id, $2, $3, $4, $5, clock_timestamp() FROM counted \
                   RETURNING id, user_id, user_name, client_id, text, time";
        let insert = query_as(sql).bind(draft.room.as_str()).bind(draft.author.user).bind(&draft.author.name);
        match insert.bind(draft.client_id).bind(draft.text).fetch_one(&self.pool).await {
            Ok(message) => Ok(Stored::New(message)),
            Err(error) if is_repeated(&error) => self.find(draft).await.map(Stored::Before),
            Err(error) => Err(error),
        }
    }

    async fn find(&self, draft: &Draft<'_>) -> sqlx::Result<MessageId> {
        let sql = "SELECT id FROM messages WHERE room = $1 AND user_id = $2 AND client_id = $3";
        let find = query_scalar(sql).bind(draft.room.as_str()).bind(draft.author.user).bind(draft.client_id);
        find.fetch_one(&self.pool).await
    }

    /// The newest message of a room.
    pub async fn last(&self, room: &Room) -> sqlx::Result<MessageId> {
        let sql = "SELECT last_id FROM rooms WHERE name = $1";
        let last = query_scalar(sql).bind(room.as_str()).fetch_optional(&self.pool).await?;
        Ok(last.unwrap_or_default())
    }

    /// The newest messages of many rooms; those without any are left out.
    pub async fn last_of(&self, rooms: &[Room]) -> sqlx::Result<Vec<(String, MessageId)>> {
        let names: Vec<&str> = rooms.iter().map(Room::as_str).collect();
        query_as("SELECT name, last_id FROM rooms WHERE name = ANY($1)")
            .bind(names)
            .fetch_all(&self.pool)
            .await
    }

    /// Where a user stands in a room.
    pub async fn standing(&self, room: &Room, user: Uuid) -> sqlx::Result<Standing> {
        let sql = "SELECT coalesce((SELECT last_id FROM rooms WHERE name = $1), 0) AS last, \
                   (SELECT id FROM seen WHERE room = $1 AND user_id = $2) AS acked";
        query_as(sql).bind(room.as_str()).bind(user).fetch_one(&self.pool).await
    }

    /// The first messages after one, oldest first.
    pub async fn after(&self, room: &Room, id: MessageId, limit: i64) -> sqlx::Result<Vec<Message>> {
        let sql = messages!("AND id > $2 ORDER BY id LIMIT $3");
        query_as(sql).bind(room.as_str()).bind(id).bind(limit).fetch_all(&self.pool).await
    }

    /// The last messages before one, or of all, oldest first.
    pub async fn before(&self, room: &Room, id: Option<MessageId>, limit: i64) -> sqlx::Result<Vec<Message>> {
        let sql = messages!("AND ($2::bigint IS NULL OR id < $2) ORDER BY id DESC LIMIT $3");
        let found = query_as(sql).bind(room.as_str()).bind(id).bind(limit).fetch_all(&self.pool).await;
        found.map(|mut messages: Vec<Message>| {
            messages.reverse();
            messages
        })
    }

    /// Keeps how far users have read. It never goes back, and never past the newest message.
    pub async fn keep_seen(&self, all: &[Seen]) -> sqlx::Result<()> {
        let rooms: Vec<&str> = all.iter().map(|seen| seen.room.as_str()).collect();
        let users: Vec<Uuid> = all.iter().map(|seen| seen.user).collect();
        let ids: Vec<MessageId> = all.iter().map(|seen| seen.id).collect();
        let sql = "INSERT INTO seen AS s (room, user_id, id) \
                   SELECT room, user_id, least(new.id, rooms.last_id) \
                   FROM unnest($1::text[], $2::uuid[], $3::bigint[]) AS new (room, user_id, id) \
                   JOIN rooms ON rooms.name = new.room \
                   ON CONFLICT (room, user_id) DO UPDATE SET id = excluded.id WHERE excluded.id > s.id";
        query(sql).bind(rooms).bind(users).bind(ids).execute(&self.pool).await.map(|_| ())
    }
}

fn is_repeated(error: &sqlx::Error) -> bool {
    let constraint = error.as_database_error().and_then(sqlx::error::DatabaseError::constraint);
    constraint == Some("messages_once")
}

/// Logs that something could not be read or written; for work that is tried again.
pub(crate) fn warn_later(what: &'static str, error: &sqlx::Error) {
    warn!(what, error = chain(error), "tried again later");
}
