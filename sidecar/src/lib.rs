//! Weft's proxy: everything that stands beside one instance of a service, or at the edge as gateway.
//!
//! `inbound` and `outbound` hold the order of the steps; `policy` decides and does no IO; `upstream` knows endpoints,
//! connections and balancing; `tls` keeps the identity; `config` holds the snapshot every request reads.

pub mod admin;
pub mod app;
pub mod certs;
pub mod config;
pub mod control;
pub mod cx;
pub mod drain;
pub mod gateway;
pub mod health;
pub mod http;
pub mod inbound;
pub mod init;
pub mod logging;
pub mod net;
pub mod operator;
pub mod outbound;
pub mod pages;
pub mod policy;
pub mod probe;
pub mod rate_limit_redis;
pub mod reject;
pub mod settings;
mod sync;
pub mod telemetry;
pub mod tls;
pub mod upstream;
