//! What is said when a load is over: a page on standard output, JSON and a plot where they are asked for.
#![expect(clippy::print_stdout, reason = "the report is what the program is for")]

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use weft_e2e::plot::{Curve, percentiles};

use crate::books::Check;
use crate::record::Summary;

const COLORS: [&str; 6] = ["#0969da", "#8c959f", "#1a7f37", "#bf3989", "#bc4c00", "#54aeff"];

/// What came of one load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Which, and by which way.
    pub(crate) name: String,
    /// What it was told.
    pub(crate) settings: String,
    /// What came of the requests.
    #[serde(flatten)]
    pub(crate) summary: Summary,
    /// What arrived, of a chat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) chat: Option<Delivered>,
    /// Whether the books balance.
    pub(crate) books: Vec<Check>,
}

/// What arrived of what was said in a chat.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Delivered {
    /// People in all rooms.
    pub(crate) clients: usize,
    /// Messages that arrived, counted for each who got them.
    pub(crate) deliveries: u64,
    /// Of them per second.
    pub(crate) per_second: f64,
    /// Connections that had to be made again.
    pub(crate) reconnects: u64,
}

impl Report {
    /// Whether all books balance.
    pub(crate) fn balances(&self) -> bool {
        self.books.iter().all(|check| check.holds)
    }

    fn text(&self) -> String {
        let Summary {
            offered,
            done,
            errors_percent,
            seconds,
            per_second,
            done_per_second,
            latency_ms: l,
            ..
        } = &self.summary;
        let mut text = format!(
            "{}\n  offered    {offered} in {seconds:.1} s\n  answered   {per_second:.0}/s, of them {done} done ({done_per_second:.0}/s)\n",
            self.name
        );
        // Writing to a string cannot fail.
        writeln!(
            text,
            "  latency    p50 {:.1}  p90 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1} ms, from when due",
            l.p50, l.p90, l.p99, l.p999, l.max
        )
        .ok();
        for (reason, count) in &self.summary.refused {
            writeln!(text, "  refused    {count} {reason}").ok();
        }
        writeln!(text, "  errors     {errors_percent:.3} %").ok();
        for (reason, count) in &self.summary.failed {
            writeln!(text, "             {count} {reason}").ok();
        }
        if let Some(chat) = &self.chat {
            let Delivered { clients, deliveries, per_second, reconnects } = chat;
            writeln!(
                text,
                "  delivered  {deliveries} to {clients} clients, {per_second:.0}/s, {reconnects} reconnects"
            )
            .ok();
        }
        for check in &self.books {
            writeln!(text, "  {} {}: {}", if check.holds { "✓" } else { "✗" }, check.name, check.found).ok();
        }
        text
    }
}

/// Prints reports.
pub(crate) fn print(reports: &[Report]) {
    for report in reports {
        println!("{}", report.text());
    }
}

/// Prints checks alone.
pub(crate) fn print_books(books: &[Check]) {
    for check in books {
        println!("{} {}: {}", if check.holds { "✓" } else { "✗" }, check.name, check.found);
    }
}

/// Writes reports as JSON.
pub(crate) fn write_json(reports: &[Report], file: &Path) -> Result<()> {
    let text = serde_json::to_string_pretty(reports)? + "\n";
    std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}

/// Writes a plot of the reports' latencies.
pub(crate) fn write_plot(title: &str, reports: &[Report], file: &Path) -> Result<()> {
    let curve = |(report, color): (&Report, &&'static str)| Curve {
        label: report.name.clone(),
        color,
        points: report.summary.curve.clone(),
    };
    let curves: Vec<Curve> = reports.iter().zip(COLORS.iter().cycle()).map(curve).collect();
    std::fs::write(file, percentiles(title, &curves)).with_context(|| format!("writing {}", file.display()))
}
