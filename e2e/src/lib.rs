//! End-to-end tests and the bench: a mesh inside one process so cheap that every feature is tested through it, the
//! applications and clients around it, and the real processes of `weft run`.
//!
//! Everything here is test equipment: it panics with a clear text where a test would have to unwrap.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "test equipment: a failure fails the test"
)]

pub mod apps;
pub mod client;
pub mod manifest;
pub mod mesh;
pub mod plot;
pub mod tokens;

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long a test waits for something that should happen at once.
pub const SOON: Duration = Duration::from_secs(10);

/// Polls until the condition gives a value; panics with `what` when it has not within [`SOON`].
pub async fn eventually<T, F>(what: &str, mut condition: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}
