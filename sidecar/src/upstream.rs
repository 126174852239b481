//! Upstreams: the endpoints of a destination, which of them serves the next attempt, and the connections to them.

pub mod balance;
pub mod connect;
pub mod mux;
pub mod outgoing;
pub mod pool;
pub mod warm;
