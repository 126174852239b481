//! The figures in this folder's README, between two marks, and the plots beside it. Written from the JSON of several loads
//! by `make load-report`, so that the page shows what was measured and says by what.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use crate::report::{Report, write_plot};

const BEGIN: &str = "<!-- written by `make load-report` -->";
const END: &str = "<!-- until here -->";

/// What those who asked for the shop said of theirs.
const CLAIMED_RATE: f64 = 10_000.0;
const CLAIMED_P99: f64 = 100.0;
const CLAIMED_ERRORS: f64 = 0.1;

/// The page.
#[derive(Clone, Debug, Args)]
pub(crate) struct Page {
    /// Reports that loads wrote with --json, named by group: sale-1.json, sale-2.json, chat-1.json, shop-1.json, …
    #[arg(required = true, value_name = "FILE")]
    reports: Vec<PathBuf>,
    /// Writes into this README, and plots into `results` beside it; without it the page is printed
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// Reads the reports and shows or writes the page.
#[expect(clippy::print_stdout, reason = "the page is what was asked for")]
pub(crate) fn run(page: &Page) -> Result<()> {
    let mut groups: Vec<(String, Vec<Report>)> = Vec::new();
    for file in &page.reports {
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let reports: Vec<Report> =
            serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))?;
        let name = file.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        let group = name.rsplit_once('-').map_or(name, |(group, _)| group).to_owned();
        match groups.iter_mut().find(|(known, _)| *known == group) {
            Some((_, known)) => known.extend(reports),
            None => groups.push((group, reports)),
        }
    }
    let text = text(&groups);
    let Some(readme) = &page.write else {
        println!("{text}");
        return Ok(());
    };
    let results = readme.parent().unwrap_or(Path::new(".")).join("results");
    std::fs::create_dir_all(&results)?;
    for (group, reports) in &groups {
        write_plot(&format!("{group}: latency"), reports, &results.join(format!("{group}.svg")))?;
    }
    let old = std::fs::read_to_string(readme).with_context(|| format!("reading {}", readme.display()))?;
    let new = replaced(&old, &text).context("the README has no place for the figures")?;
    Ok(std::fs::write(readme, new)?)
}

fn replaced(old: &str, text: &str) -> Option<String> {
    let (before, rest) = old.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{text}{END}{after}"))
}

fn text(groups: &[(String, Vec<Report>)]) -> String {
    let mut text = claims(groups);
    for (group, reports) in groups {
        // Writing to a string cannot fail.
        write!(text, "### {group}\n\n{}\n![latency](results/{group}.svg)\n\n", table(reports)).ok();
    }
    text
}

fn table(reports: &[Report]) -> String {
    let head = "| load | answers/s | done/s | p50 ms | p99 ms | p99.9 ms | max ms | errors % | books |\n|---|---|---|---|---|---|---|---|---|\n";
    let row = |report: &Report| {
        let (sum, l) = (&report.summary, &report.summary.latency_ms);
        let books = if report.balances() { "balance" } else { "**do not balance**" };
        format!(
            "| {} | {:.0} | {:.0} | {:.1} | {:.1} | {:.1} | {:.1} | {:.3} | {books} |\n",
            report.name, sum.per_second, sum.done_per_second, l.p50, l.p99, l.p999, l.max, sum.errors_percent
        )
    };
    head.to_owned() + &reports.iter().map(row).collect::<String>()
}

/// Ours against what was claimed: the best rate of a group, and the worst of those that came by a timetable.
fn claims(groups: &[(String, Vec<Report>)]) -> String {
    let of = |part: &'static str| {
        groups.iter().filter(move |(name, _)| name.contains(part)).flat_map(|(_, reports)| reports)
    };
    let best = of("sale").map(|report| report.summary.per_second).fold(0.0, f64::max);
    let p99 = of("shop").map(|report| report.summary.latency_ms.p99).fold(0.0, f64::max);
    let errors = of("shop").map(|report| report.summary.errors_percent).fold(0.0, f64::max);
    let row = |what: &str, claimed: String, ours: String, reached: bool| {
        format!("| {what} | {claimed} | {ours} | {} |\n", if reached { "yes" } else { "no" })
    };
    format!(
        "| | claimed | ours, on this machine | reached |\n|---|---|---|---|\n{}{}{}\n",
        row(
            "requests/s of the sale",
            format!("{CLAIMED_RATE:.0}"),
            format!("{best:.0}"),
            best >= CLAIMED_RATE
        ),
        row("p99 of the shop", format!("{CLAIMED_P99:.0} ms"), format!("{p99:.1} ms"), p99 <= CLAIMED_P99),
        row(
            "errors of the shop",
            format!("{CLAIMED_ERRORS} %"),
            format!("{errors:.3} %"),
            errors <= CLAIMED_ERRORS
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let old = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        assert_eq!(replaced(&old, "new\n").unwrap(), format!("before\n{BEGIN}\nnew\n{END}\nafter\n"));
        assert!(replaced("no marks", "new").is_none());
    }
}
