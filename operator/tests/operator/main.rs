//! The operator in-process against a raw gRPC client, real TLS and real files: what a proxy sees of it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod config;
mod harness;
mod identity;
mod keys;
mod source;
