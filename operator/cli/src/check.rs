//! `weft check`: what is wrong with manifests and weft.yaml, in the words of `weft run` and of the webhook. Runs
//! nothing and asks nobody. The check of a cluster is cluster/check.rs.

use std::path::Path;
use std::process::ExitCode;

use crate::problem::Findings;
use crate::run::project;
use crate::run::terminal::print_line;
use crate::settings::CheckArgs;

/// Checks every path; fails when one has errors.
pub(crate) fn run(args: &CheckArgs) -> ExitCode {
    let mut findings = Findings::default();
    let mut objects = 0;
    for path in &args.paths {
        let (found, count) = check(path);
        findings.errors.extend(found.errors);
        findings.warnings.extend(found.warnings);
        objects += count;
    }
    findings.lines().iter().for_each(|line| print_line(line));
    let (errors, warnings) = (findings.errors.len(), findings.warnings.len());
    let count = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    let summary = [count(objects, "object"), count(errors, "error"), count(warnings, "warning")].join(", ");
    if errors == 0 {
        print_line(&format!("ok: {summary}"));
        ExitCode::SUCCESS
    } else {
        print_line(&format!("refused: {summary}"));
        ExitCode::FAILURE
    }
}

fn check(path: &Path) -> (Findings, usize) {
    if path.is_dir() {
        let loaded = project::load(path);
        return (loaded.findings, loaded.objects);
    }
    let mut findings = Findings::default();
    if project::is_settings(path) {
        // Its names can only be checked with the manifests beside it.
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        return check(directory.unwrap_or(Path::new(".")));
    }
    let count = project::read_manifests(&[path.to_owned()], &mut findings).len();
    (findings, count)
}
