//! The targets of `cargo fuzz`, which needs a nightly compiler. The same code runs for a moment, without coverage, in the
//! workspace's tests (`e2e/tests/fuzz.rs`).

pub mod targets;
