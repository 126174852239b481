//! The files of the proxy whose state is shared by workers, built with loom's lock and atomics in place of the standard
//! library's. The tests run them through every interleaving of a few threads, and every value that a relaxed load may see.
//!
//! The files are the proxy's own; what they use besides is the proxy's crate.

// Their unit tests run in the proxy's crate: loom's types work only within a model.
#![cfg(not(test))]
#![allow(dead_code, missing_debug_implementations, reason = "the proxy uses the rest")]

pub use weft_sidecar::reject;

/// Loom's.
pub mod sync {
    pub use loom::sync::{Mutex, MutexGuard, atomic};
}

/// The policies that keep state.
#[path = "../../../sidecar/src/policy"]
pub mod policy {
    pub use weft_sidecar::policy::outcome;

    pub mod breaker;
    pub mod limits;
    pub mod outlier;

    /// Local rate limits.
    pub mod rate_limit {
        mod counts;
        mod window;

        use tokio::time::Instant;

        use self::counts::{Counts, Rate};

        /// The counts of one limit without key.
        pub struct Limit(Counts);

        impl Limit {
            /// A bucket of this many tokens, one of which comes back every second.
            pub fn bucket(capacity: u32, now: Instant) -> Self {
                Self(Counts::new(Rate::Bucket { step: 1_000_000_000, capacity }, now))
            }

            /// This many in any second.
            pub fn window(most: u32, now: Instant) -> Self {
                Self(Counts::new(Rate::Window { span: 1_000_000_000, most }, now))
            }

            /// Counts one request, if there is room.
            pub fn take(&self, now: Instant) -> bool {
                self.0.take(None, now).wait == 0
            }
        }
    }

    /// Retries.
    pub mod retry {
        pub mod budget;
    }
}
