//! The codec against whole conversations, byte by byte and in pieces.

#![expect(
    clippy::unwrap_used,
    clippy::excessive_nesting,
    reason = "test code: conversations in loops over cases"
)]

mod client;
mod heads;
mod server;
mod smuggling;
mod support;
