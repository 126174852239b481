//! Conformance: what the RFCs ask of a proxy, seen on the wire. Nothing here knows how the proxy is written.
#![expect(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod corpus;
mod frames;
mod h2spec;
mod site;
mod smuggling;
