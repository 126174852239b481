//! The data plane as a whole: real proxies on real sockets with real certificates, one application behind them.
//! Configuration is given directly; what the operator does with it is tested elsewhere.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "test code")]
#![allow(clippy::panic, reason = "test code")]

mod http1;
mod support;
