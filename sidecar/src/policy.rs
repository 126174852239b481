//! Policies: pure decisions about a request. No IO, no clock, no randomness of their own: those are arguments. Policies
//! do not know each other; their order stands once per direction in `inbound/http.rs` and `outbound/http.rs`.

pub mod jwt;
pub mod path;
