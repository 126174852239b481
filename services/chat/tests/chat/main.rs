//! Chat over real WebSockets, on several instances, with the real PostgreSQL and Redis.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod client;
mod counted;
mod described;
mod ends;
mod frames;
mod hostile;
mod killed;
mod moving;
mod pace;
mod people;
mod rooms;
mod town;
mod trouble;
