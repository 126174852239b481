//! The ticket service with real PostgreSQL, Redis and payment service, both strategies alike.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod agreement;
mod office;
mod purchase;
mod queue;
mod rush;
mod sale;
