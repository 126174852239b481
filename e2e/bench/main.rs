//! The bench: every load over every path, all in one run with the rounds interleaved, so that what else the machine does
//! hits every path alike. Prints the tables that stand in this folder's README, or writes them there.
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::indexing_slicing,
    reason = "figures to print, far below 2^52, and frames shorter than 16 KiB"
)]

mod certificates;
mod client;
mod frames;
mod loads;
mod machine;
mod measure;
mod origin;
mod paths;
mod report;
mod rivals;
mod weft;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::loads::Load;
use crate::measure::{Conditions, measure};
use crate::paths::{Kind, Paths, Wanted};
use crate::report::{Run, Table};

/// Measures Weft's request path against other proxies on this machine.
#[derive(Parser)]
struct Options {
    /// Loads to send, by the beginning of their names, separated by commas; none: all.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Paths to send them over, by a part of their names in any case, separated by commas; none: all.
    #[arg(long, value_delimiter = ',')]
    paths: Vec<String>,
    /// Rounds; the tables show medians.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = loads::SECONDS.as_secs())]
    seconds: u64,
    /// Share of the machine's CPU that others may use during a run before it is measured again, in percent.
    #[arg(long, default_value_t = 10.0)]
    others: f64,
    /// Envoy's program, where it is not the one that `setup.sh bench` installed.
    #[arg(long)]
    envoy: Option<PathBuf>,
    /// Write the tables into the README of e2e/bench and the plots into its folder `results`, instead of printing.
    #[arg(long)]
    write: bool,
}

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
    let asked = |load: &&Load| {
        options.only.is_empty() || options.only.iter().any(|begin| load.key.starts_with(begin.as_str()))
    };
    let loads: Vec<&Load> = loads::ALL.iter().filter(asked).collect();
    ensure!(!loads.is_empty(), "no such load; there are: {}", loads::ALL.map(|load| load.key).join(", "));
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| goes_over(options, *kind)).collect();
    let envoy = paths::find_envoy(options.envoy.clone());
    if envoy.is_none() && kinds.contains(&Kind::Envoy) {
        report::note("Envoy is not here and is left out (`./setup.sh bench` says why)");
    }
    let (mut tables, mut failed) = (Vec::new(), Vec::new());
    for load in loads {
        let wanted = Wanted { kinds: &kinds, load, envoy: envoy.as_deref() };
        match table(&wanted, options).await {
            Ok(table) => tables.push(table),
            // The figures of the others are worth having.
            Err(error) => {
                report::note(&format!("{}: {error:#}", load.key));
                failed.push(load.key);
            }
        }
    }
    // The README shows one whole run, so one with gaps is only printed.
    if options.write && failed.is_empty() {
        return report::write(&tables, options.rounds);
    }
    report::print(&tables)?;
    ensure!(failed.is_empty(), "no figures of {}: what went wrong is said above", failed.join(", "));
    Ok(())
}

fn goes_over(options: &Options, kind: Kind) -> bool {
    let name = kind.name().to_lowercase();
    options.paths.is_empty() || options.paths.iter().any(|part| name.contains(&part.to_lowercase()))
}

/// Every path under one load.
async fn table(wanted: &Wanted<'_>, options: &Options) -> Result<Table> {
    let conditions = Conditions { duration: Duration::from_secs(options.seconds), others: options.others };
    let paths = Paths::start(wanted).await.context("starting the proxies")?;
    let runs = match rounds(&paths, wanted.load, options, conditions).await {
        Ok(runs) => runs,
        Err(error) => return Err(error.context(paths.keep_logs())),
    };
    paths.stop().await?;
    Ok(Table { load: *wanted.load, runs })
}

async fn rounds(paths: &Paths, load: &Load, options: &Options, conditions: Conditions) -> Result<Vec<Run>> {
    let warming = Conditions { duration: Duration::from_millis(500), others: 100.0 };
    for path in &paths.all {
        measure(&paths.caller, path, load, warming).await?;
    }
    let mut runs = Vec::new();
    for round in 1..=options.rounds {
        for path in &paths.all {
            runs.push(measure(&paths.caller, path, load, conditions).await?);
        }
        report::note(&format!("{}: round {round} of {} done", load.key, options.rounds));
    }
    Ok(runs)
}
