//! The table of the measurement, for a README.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command for people")]

use std::time::Duration;

use crate::sidecar::Memory;

/// What one size gave.
pub(crate) struct Row {
    pub(crate) services: usize,
    /// From the start of the operator's process to ready.
    pub(crate) ready: Duration,
    /// From before the change to the last proxy that has it.
    pub(crate) delays: Vec<Duration>,
    /// Resident memory of the operator afterwards.
    pub(crate) memory_mib: f64,
    /// CPU of the operator per change.
    pub(crate) cpu_per_change: Duration,
    /// All changes together.
    pub(crate) took: Duration,
    /// A real sidecar, where one was measured.
    pub(crate) sidecar: Option<Memory>,
}

pub(crate) fn head(proxies: usize, uses: usize, changes: usize) {
    println!(
        "{proxies} proxies, each using {uses} services; {changes} changes of one endpoint, one after the other\n"
    );
    println!(
        "| services | ready after | change to last proxy p50 / p99 / max | operator RSS | CPU per change | sidecar RSS, ready / in use |"
    );
    println!("|---:|---:|---:|---:|---:|---:|");
}

pub(crate) fn row(row: &Row) {
    let mut delays = row.delays.clone();
    delays.sort_unstable();
    let at = |share: usize| {
        let last = delays.len().saturating_sub(1);
        delays.get((delays.len() * share / 100).min(last)).map_or(0.0, |delay| delay.as_secs_f64() * 1e3)
    };
    println!(
        "| {} | {:.1} s | {:.1} / {:.1} / {:.1} ms | {:.0} MiB | {:.2} ms | {} |",
        row.services,
        row.ready.as_secs_f64(),
        at(50),
        at(99),
        at(100),
        row.memory_mib,
        row.cpu_per_change.as_secs_f64() * 1e3,
        row.sidecar
            .as_ref()
            .map_or_else(|| "-".to_owned(), |it| format!("{:.1} / {:.1} MiB", it.idle_mib, it.used_mib)),
    );
    progress(&format!("{} changes took {:.1} s", row.delays.len(), row.took.as_secs_f64()));
}

pub(crate) fn progress(text: &str) {
    eprintln!("… {text}");
}
