//! Weft's operator: watches resources, compiles what each proxy gets, publishes it, and issues identities.
//!
//! The path of a change is `reconcile`: a source (`source`) says what is, the world (`weft-core`) says what that
//! affects, `publish` says what each stream is to hold, `server/config` sends what is missing. Beside it stand
//! `server/identity` with `attest`, `authority` and `trust` (who is who), `jwks` (keys of issuers) and `server/admin` (how is
//! it). [`app`] puts all of it together; everything that can be decided without IO is in `weft-core`.

pub mod app;
pub mod settings;

mod attest;
mod authority;
mod clock;
mod cluster;
mod event;
mod jwks;
mod latest;
mod leader;
mod metrics;
mod publish;
mod reconcile;
mod replicas;
mod server;
mod source;
mod status_writer;
mod trust;
