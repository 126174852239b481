//! The proxy's end of identity and configuration, against an operator on the real wire with real TLS.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

mod certs;
mod config;
mod operator;
mod proxy;
