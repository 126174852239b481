//! The report in this folder's README, between two marks, and its plots beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Table, counts, plot};

const BEGIN: &str = "<!-- written by `make bench` -->";
const END: &str = "<!-- until here -->";

/// Replaces the report in the README, and the plots.
pub(crate) fn write(tables: &[Table], rounds: usize) -> Result<()> {
    let folder = folder();
    let results = folder.join("results");
    fs::create_dir_all(&results)?;
    for table in tables {
        fs::write(results.join(format!("{}.svg", table.load.key)), plot::svg(table))?;
    }
    let file = folder.join("README.md");
    let old = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let new = replaced(&old, &report(tables, rounds)?).context("the README has no place for the report")?;
    Ok(fs::write(&file, new)?)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bench")
}

fn replaced(old: &str, report: &str) -> Option<String> {
    let (before, rest) = old.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{report}{END}{after}"))
}

fn report(tables: &[Table], rounds: usize) -> Result<String> {
    let (runs, disturbed) = counts(tables);
    let machine = machine()?;
    let head = format!(
        "{machine}; medians of {rounds} rounds. Runs during which others used more CPU than allowed: {disturbed} of {runs}.\n\n"
    );
    let section = |table: &Table| {
        let (title, key) = (table.load.title, table.load.key);
        format!("### {title}\n\n{}\n![{title}](results/{key}.svg)\n\n", table.markdown())
    };
    Ok(head + &tables.iter().map(section).collect::<String>())
}

/// The day, the machine and the rivals' versions.
fn machine() -> Result<String> {
    let cores = std::thread::available_parallelism()?;
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches([' ', '\t', ':']);
    let date = said("date", &["-u", "+%F"]);
    let kernel = said("uname", &["-sr"]);
    let nginx = said("nginx", &["-v"]);
    let haproxy = said("haproxy", &["-v"]);
    Ok(format!("{date}, {cores} CPUs ({model}), {kernel}; {nginx}; {haproxy}; Envoy {ENVOY}"))
}

/// The version that `setup.sh` installs.
const ENVOY: &str = "1.40.0";

/// First line of what a program says; nothing when it is not there.
fn said(program: &str, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else { return format!("no {program}") };
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let text = String::from_utf8_lossy(&text);
    text.lines().next().unwrap_or_default().trim_start_matches("nginx version: ").to_owned()
}
