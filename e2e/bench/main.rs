//! The bench: one load through nothing, one sidecar, two sidecars with mutual TLS, and the same two hops through nginx,
//! all in one run with the rounds interleaved, so that what else the machine does hits every path alike.
//! Prints the table that stands in this folder's README. Leaves out what other proxies do and large bodies.
#![expect(clippy::cast_precision_loss, reason = "figures to print, far below 2^52")]

mod load;
mod machine;
mod nginx;
mod paths;
mod report;
mod weft;

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::load::{Load, Outcome};
use crate::machine::CpuClock;
use crate::paths::{Path, Paths};
use crate::report::Run;

/// Measures Weft's request path against nginx on this machine.
#[derive(Parser)]
struct Options {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds; the table shows medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Connections of the load.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Requests per second of the fixed-rate load.
    #[arg(long, default_value_t = 2000)]
    rate: u64,
    /// Share of the machine's CPU that others may use during a run before it is measured again, in percent.
    #[arg(long, default_value_t = 10.0)]
    others: f64,
}

/// How often a disturbed run is measured again before it is taken as it is and marked.
const ATTEMPTS: usize = 3;

fn main() -> Result<()> {
    let options = Options::parse();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut terminated = signal(SignalKind::terminate())?;
        // Giving up drops the paths, and with them every process they started.
        tokio::select! {
            done = bench(&options) => done,
            interrupted = tokio::signal::ctrl_c() => Err(interrupted.err().map_or_else(|| anyhow!("interrupted"), Into::into)),
            _ = terminated.recv() => Err(anyhow!("terminated")),
        }
    })
}

async fn bench(options: &Options) -> Result<()> {
    let paths = Paths::start().await.context("starting the proxies")?;
    let idle = paths.idle_memory()?;
    let closed = Load::closed(options.connections, Duration::from_secs(options.seconds));
    let fixed = Load::fixed(options.connections, Duration::from_secs(options.seconds), options.rate);
    for path in paths.all() {
        let warm = Load::closed(options.connections, Duration::from_secs(1));
        load::run(path.address, &warm).await.with_context(|| format!("warming up {}", path.name))?;
    }
    let mut runs = Vec::new();
    for round in 1..=options.rounds {
        for load in [&closed, &fixed] {
            for path in paths.all() {
                runs.push(measure(path, load, options.others).await?);
            }
        }
        report::note(&format!("round {round} of {} done", options.rounds));
    }
    report::print(&runs, &idle, options.connections, options.rate);
    paths.stop().await
}

/// One measurement; made again when others were using the machine meanwhile.
async fn measure(path: &Path, load: &Load, others_max: f64) -> Result<Run> {
    let mut attempt = 1;
    loop {
        let clock = CpuClock::start(&path.processes)?;
        let outcome: Outcome =
            load::run(path.address, load).await.with_context(|| format!("measuring {}", path.name))?;
        let cpu = clock.stop()?;
        let disturbed = cpu.others_percent > others_max;
        if !disturbed || attempt == ATTEMPTS {
            return Run::new(path, load, &outcome, &cpu, disturbed);
        }
        attempt += 1;
    }
}
