//! For the tests of the services: private PostgreSQL and Redis servers, a service in this process, and a client.
//!
//! Nothing is mocked and nothing outlives the test process: every server has a keeper, a shell that is told by the
//! kernel when this process ends, stops the server and removes its folder.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test code: a failure must end the test")]

mod contract;
mod http;
mod process;
mod readme;
mod running;
mod servers;

pub use contract::documented;
pub use http::{Http, Reply};
pub use process::{Process, free_port};
pub use readme::readme_shows;
pub use running::{Running, eventually};
pub use servers::{RedisServer, cut_off, database, let_in, redis};
