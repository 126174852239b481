//! The data plane as a whole: real proxies on real sockets with real certificates, one application behind them.
//! Configuration is given directly; what the operator does with it is tested elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code")]

mod attempts;
#[path = "../support/collector.rs"]
mod collector;
mod drain;
mod gateway;
mod http1;
mod http2;
mod mtls;
mod policies;
mod resilience;
mod support;
mod tcp;
mod upgrade;
mod weft;
