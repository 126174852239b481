//! The tables: medians over the rounds, and ratios to nginx's two hops of the same run. Printed, or written into the
//! README of this folder with a plot of each.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "printing tables is what the bench is for")]

mod plot;
mod readme;

use std::collections::BTreeMap;

use anyhow::Result;

use crate::loads::Load;
use crate::paths::Kind;

pub(crate) use readme::write;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Metric {
    /// Answers per second.
    Rate,
    /// Milliseconds.
    P50,
    P99,
    P999,
    /// Milliseconds more than without proxies.
    AddedP50,
    AddedP99,
    /// Microseconds per request, of all proxies on the path together.
    Cpu,
    /// MiB of all proxies on the path together: before the load, after it.
    Idle,
    Memory,
    /// KiB that each open socket adds to it.
    PerSocket,
    /// Percent of the machine.
    Others,
}

impl Metric {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Rate => "req/s",
            Self::P50 => "p50 ms",
            Self::P99 => "p99 ms",
            Self::P999 => "p99.9 ms",
            Self::AddedP50 => "added p50 ms",
            Self::AddedP99 => "added p99 ms",
            Self::Cpu => "CPU µs/req",
            Self::Idle => "RSS idle MiB",
            Self::Memory => "RSS MiB",
            Self::PerSocket => "KiB per socket",
            Self::Others => "others' CPU %",
        }
    }

    pub(crate) fn text(self, value: f64) -> String {
        let digits = match self {
            Self::Rate => 0,
            Self::Cpu | Self::Idle | Self::Memory | Self::PerSocket | Self::Others => 1,
            Self::P50 | Self::P99 | Self::P999 | Self::AddedP50 | Self::AddedP99 => 2,
        };
        format!("{value:.digits$}")
    }
}

/// Figures of one measurement, or medians of several.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(BTreeMap<Metric, f64>);

impl Figures {
    pub(crate) fn set(&mut self, metric: Metric, value: f64) {
        self.0.insert(metric, value);
    }

    fn set_difference(&mut self, to: Metric, of: Metric, from: &Self) {
        if let (Some(own), Some(less)) = (self.get(of), from.get(of)) {
            self.set(to, own - less);
        }
    }

    pub(crate) fn get(&self, metric: Metric) -> Option<f64> {
        self.0.get(&metric).copied()
    }
}

/// One measurement.
pub(crate) struct Run {
    pub(crate) kind: Kind,
    pub(crate) figures: Figures,
    pub(crate) disturbed: bool,
}

/// One load over all paths.
pub(crate) struct Table {
    pub(crate) load: Load,
    pub(crate) runs: Vec<Run>,
}

impl Table {
    /// Each path's medians, in the order in which they were measured.
    fn rows(&self) -> Vec<(Kind, Figures)> {
        let mut kinds: Vec<Kind> = self.runs.iter().map(|run| run.kind).collect();
        kinds.sort();
        kinds.dedup();
        let direct = self.medians(Kind::Direct);
        let with_added = |kind| {
            let mut own = self.medians(kind);
            if kind != Kind::Direct {
                own.set_difference(Metric::AddedP50, Metric::P50, &direct);
                own.set_difference(Metric::AddedP99, Metric::P99, &direct);
            }
            (kind, own)
        };
        kinds.into_iter().map(with_added).collect()
    }

    fn medians(&self, kind: Kind) -> Figures {
        let mut values: BTreeMap<Metric, Vec<f64>> = BTreeMap::new();
        for run in self.runs.iter().filter(|run| run.kind == kind) {
            for (metric, value) in &run.figures.0 {
                values.entry(*metric).or_default().push(*value);
            }
        }
        let median = |mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Figures(values.into_iter().map(|(metric, values)| (metric, median(values))).collect())
    }

    fn markdown(&self) -> String {
        let rows = self.rows();
        let nginx = rows.iter().find(|(kind, _)| *kind == Kind::Nginx).map(|(_, figures)| figures);
        let titles: Vec<&str> = self.load.columns.iter().map(|metric| metric.title()).collect();
        let head = format!("| path | {} |\n|---|{}\n", titles.join(" | "), "---|".repeat(titles.len()));
        let row = |(kind, own): &(Kind, Figures)| {
            let cells = self.load.columns.iter().map(|metric| cell(*metric, own, nginx));
            format!("| {} | {} |\n", kind.name(), cells.collect::<Vec<_>>().join(" | "))
        };
        head + &rows.iter().map(row).collect::<String>()
    }

    fn disturbed(&self) -> usize {
        self.runs.iter().filter(|run| run.disturbed).count()
    }
}

fn cell(metric: Metric, own: &Figures, nginx: Option<&Figures>) -> String {
    let Some(value) = own.get(metric) else { return "-".to_owned() };
    let text = metric.text(value);
    match nginx.and_then(|nginx| nginx.get(metric)) {
        Some(peer) if metric != Metric::Others && peer > 0.0 => format!("{text} ({:.2})", value / peer),
        _ => text,
    }
}

/// A line of progress.
pub(crate) fn note(text: &str) {
    eprintln!("bench: {text}");
}

/// Prints the tables.
#[expect(clippy::unnecessary_wraps, reason = "as `write`, which can fail")]
pub(crate) fn print(tables: &[Table]) -> Result<()> {
    for table in tables {
        println!("{}:\n\n{}", table.load.title, table.markdown());
    }
    let (runs, disturbed) = counts(tables);
    println!(
        "In parentheses: ratio to nginx. Runs during which others used more CPU than allowed: {disturbed} of {runs}."
    );
    Ok(())
}

fn counts(tables: &[Table]) -> (usize, usize) {
    let runs = tables.iter().map(|table| table.runs.len()).sum();
    (runs, tables.iter().map(Table::disturbed).sum())
}
