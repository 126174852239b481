//! What Redis knows of an event that it counts: scripts, keys, and how it is made to know the truth again.
//!
//! `ticket:<number>` counts the seats left and names the run of Redis it is true for; beside it `:users` counts seats per
//! customer, `:tickets` holds `user quantity expires created` per ticket, `:queue` and `:turn` are the waiting queue. The
//! stream [`STREAM`] carries new holds to PostgreSQL (`writer`).
//!
//! **A counter is true for one run of Redis only.** A Redis that was restarted may have lost its last second, or all. So
//! each connection asks for the run id of its server first (`link`), every script compares it with the one in the
//! counter, and a counter of another run sells nothing until it was rebuilt from PostgreSQL (`rebuild`). A connection
//! cannot outlive the process it leads to, so there is no moment in which an old counter is believed.

pub mod audit;
pub mod link;
pub mod queue;
pub mod rebuild;
pub mod writer;

use std::sync::LazyLock;

use ::redis::Script;

/// The stream of holds on their way to PostgreSQL.
pub const STREAM: &str = "ticket:holds";

/// A script and its digest, with what it shares put before it.
macro_rules! script {
    ($($part:literal),+) => {
        LazyLock::new(|| Script::new(concat!($(include_str!($part)),+)))
    };
}

/// Checks and holds, in one step.
pub static RESERVE: LazyLock<Script> = script!("redis/gate.lua", "redis/reserve.lua");
/// Gives seats back.
pub static RELEASE: LazyLock<Script> = script!("redis/release.lua");
/// Joins the queue, looks at it, or passes it.
pub static QUEUE: LazyLock<Script> = script!("redis/gate.lua", "redis/queue.lua");
/// Stops a counter.
pub static PAUSE: LazyLock<Script> = script!("redis/pause.lua");
/// Puts a rebuilt counter in place.
pub static INSTALL: LazyLock<Script> = script!("redis/install.lua");

/// The keys of one event.
pub struct Keys {
    /// Seats left, and the run for which that is true.
    pub counter: String,
    /// Seats per customer.
    pub users: String,
    /// Holds per ticket; `-` for a ticket that ended and whose idempotency key may come again.
    pub tickets: String,
    /// Who waits, by the time of being let in.
    pub queue: String,
    /// When the next one is let in.
    pub turn: String,
}

impl Keys {
    /// The keys of the event of that number.
    pub fn of(number: i32) -> Self {
        Self {
            counter: format!("ticket:{number}"),
            users: format!("ticket:{number}:users"),
            tickets: format!("ticket:{number}:tickets"),
            queue: format!("ticket:{number}:queue"),
            turn: format!("ticket:{number}:turn"),
        }
    }

    /// Where new users and tickets of that event are staged. One at a time does so, under the lock of the event.
    pub fn of_staged(number: i32) -> Self {
        Self {
            users: format!("ticket:{number}:users:staged"),
            tickets: format!("ticket:{number}:tickets:staged"),
            ..Self::of(number)
        }
    }
}
