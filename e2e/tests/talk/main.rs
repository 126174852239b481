//! The shop's chat through gateway and sidecars, with the manifests of the example: over WebSockets, and as people use
//! it, with its page in a browser.
#![expect(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod browser;
mod page;
mod shop;
mod sockets;
