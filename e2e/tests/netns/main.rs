//! Redirected traffic, for real: two pods and a stranger, each a network namespace of its own, joined by a node that
//! routes. The pods' rules are made by `weft-proxy init`, their proxies and the operator are the real binaries.
//!
//! Needs root, `ip` and `nft`, and the workspace's binaries beside the test; without root it says that it skips. Every
//! test has namespaces of its own, so all addresses are the same everywhere, and nothing is left behind.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "test code, which blocks: namespaces belong to threads"
)]

mod app;
mod capture;
mod inbound;
mod network;
mod outbound;
mod pods;
mod talk;
