//! Where seats are held. Two strategies behind one trait, side by side, and each event has its own:
//!
//! | | `postgres` ([`RowLock`]) | `redis` ([`Script`]) |
//! |---|---|---|
//! | who counts | the event's row, locked `FOR UPDATE` | one Lua script, atomic because Redis runs one at a time |
//! | a reservation is | committed in PostgreSQL | in Redis and its stream; in PostgreSQL a moment later |
//! | a reservation costs | a transaction, one after the other per event | one round trip, no PostgreSQL |
//! | without Redis | sells on | sells nothing |
//! | Redis loses its data | nothing is lost | reservations of the last moment that nobody has paid for |
//!
//! Both end in the same tables, where `no_seat_twice` is the last line: a ticket is paid for only after it was written
//! there (`domain/purchase.rs`).

pub mod row_lock;
pub mod script;

use time::OffsetDateTime;

pub use self::{row_lock::RowLock, script::Script};
use crate::domain::{
    Error,
    sale::Sale,
    ticket::{Ask, Hold},
};

/// What came of asking for seats. That there are none, or none for this customer, is an error.
#[derive(Debug)]
pub enum Reserved {
    /// They are held.
    New(Hold),
    /// The same request was made before; what it got, unless the tables say more.
    Known(Option<Hold>),
}

/// Holds seats.
pub trait Desk {
    /// Holds seats for a customer, all of them or none.
    fn reserve(
        &self,
        sale: &Sale,
        ask: &Ask,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<Reserved, Error>> + Send;

    /// How many seats nobody has.
    fn left(&self, sale: &Sale) -> impl Future<Output = Result<i64, Error>> + Send;
}
