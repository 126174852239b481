//! The table: medians over the rounds, and ratios to nginx's two hops of the same run.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing the table is what the bench is for")]

use anyhow::Result;

use crate::load::{Load, Outcome};
use crate::machine::{self, Cpu};
use crate::paths::{NGINX, Path};

/// One measurement.
pub(crate) struct Run {
    path: &'static str,
    fixed: bool,
    figures: Figures,
    disturbed: bool,
}

/// What is measured; also what the table shows, as medians.
#[derive(Clone, Copy, Default)]
struct Figures {
    requests_per_second: f64,
    /// Milliseconds.
    p50: f64,
    p99: f64,
    p999: f64,
    /// Microseconds of all proxies on the path together.
    cpu_per_request: f64,
    /// MiB of all proxies on the path together.
    memory: f64,
    others_percent: f64,
}

impl Run {
    pub(crate) fn new(
        path: &Path,
        load: &Load,
        outcome: &Outcome,
        cpu: &Cpu,
        disturbed: bool,
    ) -> Result<Self> {
        let quantile = |q| outcome.latency.value_at_quantile(q) as f64 / 1000.0;
        let figures = Figures {
            requests_per_second: outcome.requests as f64 / outcome.elapsed.as_secs_f64(),
            p50: quantile(0.5),
            p99: quantile(0.99),
            p999: quantile(0.999),
            cpu_per_request: cpu.seconds * 1e6 / outcome.requests as f64,
            memory: machine::memory_mib(&path.processes)?,
            others_percent: cpu.others_percent,
        };
        Ok(Self { path: path.name, fixed: load.rate.is_some(), figures, disturbed })
    }
}

/// A line of progress.
pub(crate) fn note(text: &str) {
    eprintln!("bench: {text}");
}

/// Prints both loads' tables.
pub(crate) fn print(runs: &[Run], idle: &[(&'static str, f64)], connections: usize, rate: u64) {
    table(runs, false, &format!("Closed load, {connections} connections, 1 KiB answers"));
    table(runs, true, &format!("Fixed rate, {rate} requests/s on {connections} connections, 1 KiB answers"));
    println!("Idle, resident MiB per proxy process tree:");
    for (name, memory) in idle {
        println!("- {name}: {memory:.1}");
    }
    let disturbed = runs.iter().filter(|run| run.disturbed).count();
    println!("\nRuns during which others used more of the CPU than allowed: {disturbed} of {}", runs.len());
}

fn table(runs: &[Run], fixed: bool, title: &str) {
    println!("{title}:\n");
    println!("| path | req/s | p50 ms | p99 ms | p99.9 ms | CPU µs/req | RSS MiB | others' CPU % |");
    println!("|---|---|---|---|---|---|---|---|");
    let mut names: Vec<&str> = Vec::new();
    for run in runs {
        if !names.contains(&run.path) {
            names.push(run.path);
        }
    }
    let nginx = medians(runs, NGINX, fixed);
    for name in names {
        let own = medians(runs, name, fixed);
        println!("| {name} |{}", row(&own, &nginx));
    }
    println!("\nIn parentheses: ratio to nginx's two hops.\n");
}

fn row(own: &Figures, nginx: &Figures) -> String {
    let cell = |value: f64, peer: f64, digits: usize| {
        if value == 0.0 { " - |".to_owned() } else { format!(" {value:.digits$} ({:.2}) |", value / peer) }
    };
    [
        cell(own.requests_per_second, nginx.requests_per_second, 0),
        cell(own.p50, nginx.p50, 2),
        cell(own.p99, nginx.p99, 2),
        cell(own.p999, nginx.p999, 2),
        cell(own.cpu_per_request, nginx.cpu_per_request, 1),
        cell(own.memory, nginx.memory, 1),
        format!(" {:.1} |", own.others_percent),
    ]
    .concat()
}

fn medians(runs: &[Run], path: &str, fixed: bool) -> Figures {
    let of = |pick: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = runs
            .iter()
            .filter(|run| run.path == path && run.fixed == fixed)
            .map(|run| pick(&run.figures))
            .collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    Figures {
        requests_per_second: of(|f| f.requests_per_second),
        p50: of(|f| f.p50),
        p99: of(|f| f.p99),
        p999: of(|f| f.p999),
        cpu_per_request: of(|f| f.cpu_per_request),
        memory: of(|f| f.memory),
        others_percent: of(|f| f.others_percent),
    }
}
