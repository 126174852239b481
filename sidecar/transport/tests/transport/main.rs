//! `weft/1` against its specification (README): both sides against each other and each against a peer written by hand.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::excessive_nesting,
    clippy::mem_forget,
    clippy::needless_pass_by_value,
    reason = "test code: conversations in loops over cases"
)]

mod abuse;
mod model;
mod spec;
mod streams;
mod support;
