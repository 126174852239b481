//! What must hold of shared state in whatever order a few threads run.
#![expect(clippy::unwrap_used, reason = "test code")]

mod breaker;
mod counters;
mod outlier;
mod rate_limit;

use std::sync::Arc;

use loom::thread;

/// Runs this on two threads, the second being the caller's, and gives what both came to.
fn both<T: 'static>(one: impl FnOnce() -> T + 'static, other: impl FnOnce() -> T) -> (T, T) {
    let one = thread::spawn(one);
    let other = other();
    (one.join().unwrap(), other)
}

/// Runs the same on two threads.
fn twice<S: 'static, T: 'static>(shared: &Arc<S>, then: impl Fn(&Arc<S>) -> T + Copy + 'static) -> (T, T) {
    let with = Arc::clone(shared);
    both(move || then(&with), || then(shared))
}
