//! Orders with the real user, product and payment services, PostgreSQL and Redis.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod killed;
mod placing;
mod purpose;
mod saga;
mod shop;
