//! Upstreams: the endpoints of a destination, which of them serves the next attempt, and the connections to them.

pub mod balance;
