//! Conformance: what the RFCs ask of a proxy, seen on the wire. Nothing here knows how the proxy is written.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::excessive_nesting,
    clippy::large_futures,
    clippy::type_complexity,
    reason = "test code: an attack reads best where it is made"
)]

mod abuse;
mod corpus;
mod early;
mod frames;
mod grpc;
mod h2spec;
mod hygiene;
mod process;
mod site;
mod smuggling;
