//! Notifications, preferences, and events seen, in PostgreSQL. Knows tables, not rules.
//! What must happen together is one method and one transaction here.

use std::time::Duration;

use shop_kit::{
    events::{self, Event, inbox},
    page::Page,
};
use sqlx::{FromRow, PgPool, query, query_as, query_scalar};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::{
    message::{Means, Message, Notification, State},
    preferences::Preferences,
};

/// The name of this service in its inbox, and of its group in the streams.
pub const CONSUMER: &str = "notification";

/// A message to be sent, and which try this is. Nobody else tries for a while.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// What to send.
    pub message: Message,
    /// The type of the event.
    pub event: String,
    /// Whom it is for.
    pub user_id: Uuid,
    /// Which try this is, from 1.
    pub attempt: u32,
    /// Since when it is to be sent.
    pub created: OffsetDateTime,
}

#[derive(FromRow)]
struct Row {
    event_id: Uuid,
    channel: String,
    event: String,
    user_id: Uuid,
    recipient: String,
    subject: String,
    text: String,
    state: String,
    attempts: i32,
    created: OffsetDateTime,
    sent: Option<OffsetDateTime>,
}

#[derive(FromRow)]
struct PreferencesRow {
    email: bool,
    phone: Option<String>,
    device: Option<String>,
}

/// The tables.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
}

impl Store {
    /// The tables of that database.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Writes down what a user is to be told of an event; nothing, and `false`, if the event was seen before.
    pub async fn note(
        &self,
        event: &Event,
        user: Uuid,
        messages: &[Message],
        now: OffsetDateTime,
    ) -> sqlx::Result<bool> {
        let mut tx = self.pool.begin().await?;
        if !inbox::first_time(&mut tx, CONSUMER, event.id).await? {
            return Ok(false);
        }
        for message in messages {
            query(
                "INSERT INTO notifications (event_id, channel, event, user_id, recipient, subject, text, due, created) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)",
            )
            .bind(message.event_id)
            .bind(message.means.as_str())
            .bind(&event.stream)
            .bind(user)
            .bind(&message.recipient)
            .bind(&message.subject)
            .bind(&message.text)
            .bind(now)
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// Takes up to so many messages of a channel that are due; others may have them again after the lease.
    pub async fn claim(
        &self,
        means: Means,
        most: usize,
        now: OffsetDateTime,
        lease: Duration,
    ) -> sqlx::Result<Vec<Claimed>> {
        let rows: Vec<Row> = query_as(
            "UPDATE notifications SET attempts = attempts + 1, due = $2 \
             WHERE (event_id, channel) IN (SELECT event_id, channel FROM notifications \
             WHERE channel = $1 AND state = 'pending' AND due <= $3 ORDER BY due LIMIT $4 FOR UPDATE SKIP LOCKED) \
             RETURNING event_id, channel, event, user_id, recipient, subject, text, state, attempts, created, sent",
        )
        .bind(means.as_str())
        .bind(now + lease)
        .bind(now)
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(Row::claimed).collect()
    }

    /// Says that a message was sent. So it was, whoever else has claimed it meanwhile.
    pub async fn sent(&self, claimed: &Claimed, now: OffsetDateTime) -> sqlx::Result<()> {
        query("UPDATE notifications SET state = 'sent', sent = $3, error = NULL WHERE event_id = $1 AND channel = $2")
            .bind(claimed.message.event_id)
            .bind(claimed.message.means.as_str())
            .bind(now)
            .execute(&self.pool)
            .await
            .map(|_| ())
    }

    /// Puts a message back, to be tried again when due; unless somebody else tries already.
    pub async fn later(&self, claimed: &Claimed, due: OffsetDateTime, error: &str) -> sqlx::Result<()> {
        query(
            "UPDATE notifications SET due = $4, error = $5 \
             WHERE event_id = $1 AND channel = $2 AND attempts = $3 AND state = 'pending'",
        )
        .bind(claimed.message.event_id)
        .bind(claimed.message.means.as_str())
        .bind(i64::from(claimed.attempt))
        .bind(due)
        .bind(error)
        .execute(&self.pool)
        .await
        .map(|_| ())
    }

    /// Gives a message up and tells so; unless somebody else tries already, or it was sent.
    pub async fn failed(&self, claimed: &Claimed, error: &str, told: &Event) -> sqlx::Result<()> {
        let mut tx = self.pool.begin().await?;
        let changed = query(
            "UPDATE notifications SET state = 'failed', error = $4 \
             WHERE event_id = $1 AND channel = $2 AND attempts = $3 AND state = 'pending'",
        )
        .bind(claimed.message.event_id)
        .bind(claimed.message.means.as_str())
        .bind(i64::from(claimed.attempt))
        .bind(error)
        .execute(&mut *tx)
        .await?;
        if changed.rows_affected() == 1 {
            events::enqueue(&mut tx, told).await?;
        }
        tx.commit().await
    }

    /// What a user was and is to be told, newest first, and how much it is in all.
    pub async fn list(&self, user: Uuid, page: Page) -> sqlx::Result<(Vec<Notification>, u64)> {
        let rows: Vec<Row> = query_as(
            "SELECT event_id, channel, event, user_id, recipient, subject, text, state, attempts, created, sent \
             FROM notifications WHERE user_id = $1 ORDER BY created DESC, event_id, channel LIMIT $2 OFFSET $3",
        )
        .bind(user)
        .bind(page.limit())
        .bind(page.offset())
        .fetch_all(&self.pool)
        .await?;
        let total: i64 = query_scalar("SELECT count(*) FROM notifications WHERE user_id = $1")
            .bind(user)
            .fetch_one(&self.pool)
            .await?;
        let found = rows.into_iter().map(Row::notification).collect::<sqlx::Result<_>>()?;
        Ok((found, total.unsigned_abs()))
    }

    /// How a user wants to be told, if they ever said it.
    pub async fn preferences(&self, user: Uuid) -> sqlx::Result<Option<Preferences>> {
        let row: Option<PreferencesRow> =
            query_as("SELECT email, phone, device FROM preferences WHERE user_id = $1")
                .bind(user)
                .fetch_optional(&self.pool)
                .await?;
        Ok(row.map(|PreferencesRow { email, phone, device }| Preferences { email, phone, device }))
    }

    /// Keeps how a user wants to be told.
    pub async fn prefer(&self, user: Uuid, preferences: &Preferences) -> sqlx::Result<()> {
        query(
            "INSERT INTO preferences (user_id, email, phone, device) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (user_id) DO UPDATE SET email = $2, phone = $3, device = $4",
        )
        .bind(user)
        .bind(preferences.email)
        .bind(&preferences.phone)
        .bind(&preferences.device)
        .execute(&self.pool)
        .await
        .map(|_| ())
    }
}

impl Row {
    fn means(&self) -> sqlx::Result<Means> {
        let known = Means::ALL.into_iter().find(|means| means.as_str() == self.channel);
        known.ok_or_else(|| sqlx::Error::Decode(format!("unknown channel {}", self.channel).into()))
    }

    fn claimed(self) -> sqlx::Result<Claimed> {
        Ok(Claimed {
            attempt: self.attempts.unsigned_abs(),
            message: Message {
                event_id: self.event_id,
                means: self.means()?,
                recipient: self.recipient,
                subject: self.subject,
                text: self.text,
            },
            event: self.event,
            user_id: self.user_id,
            created: self.created,
        })
    }

    fn notification(self) -> sqlx::Result<Notification> {
        let state = match self.state.as_str() {
            "pending" => State::Pending,
            "sent" => State::Sent,
            "failed" => State::Failed,
            other => return Err(sqlx::Error::Decode(format!("unknown state {other}").into())),
        };
        Ok(Notification {
            event_id: self.event_id,
            channel: self.means()?,
            event: self.event,
            recipient: self.recipient,
            subject: self.subject,
            text: self.text,
            state,
            attempts: self.attempts.unsigned_abs(),
            created: self.created,
            sent: self.sent,
        })
    }
}
