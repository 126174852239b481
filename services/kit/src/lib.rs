//! What every shop service shares: server, settings, errors, health, shutdown, events, store, telemetry.
//!
//! A service is its domain and its store; everything around them is here and is the same in all of them. There is
//! no TLS, no JWT, no breaker and no tracing set-up: the mesh does those. What is left of tracing is to pass the
//! trace headers on (`cx`, `client`).

pub mod access;
pub mod client;
pub mod clock;
pub mod cx;
pub mod errors;
pub mod events;
pub mod extract;
pub mod health;
pub mod metrics;
pub mod neighbour;
pub mod openapi;
pub mod page;
pub mod pb;
pub mod process;
pub mod purpose;
pub mod redis;
pub mod reflection;
pub mod server;
pub mod service;
pub mod settings;
pub mod store;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
