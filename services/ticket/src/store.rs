//! Events, tickets and messages on their way, in PostgreSQL. Knows tables, not rules; that no seat is sold twice, and no
//! customer has more than they may, are the exceptions, because only the row of the event can promise them.
//!
//! What must happen together is one method and one transaction. A transaction writes tickets of one event only, in the
//! order of their ids, and the row of the event after them (a trigger does), so two of them never wait for each other;
//! only the strategy `postgres` takes the event first, and then inserts ids that nobody else inserts.

pub mod frozen;
pub mod releases;
pub mod sales;
pub mod tickets;

use sqlx::PgPool;

/// Where events and tickets are kept.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
}

impl Store {
    /// The store in that database.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

/// Whether the database refused because there is no seat left, or none for this customer.
fn is_no_seat(error: &sqlx::Error) -> bool {
    let constraint = error.as_database_error().and_then(sqlx::error::DatabaseError::constraint);
    matches!(constraint, Some("no_seat_twice" | "no_seat_beyond_limit"))
}

/// The error of a word in a column that this version does not know.
fn unknown(what: &str, word: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("unknown {what} {word}").into())
}
