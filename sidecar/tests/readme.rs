//! `sidecar/README.md` against the code: its tables of settings, refusals and metrics are what the proxy has, no row
//! more or less, its admin pages and log fields too. Leaves out the words around them and those of the last columns.
#![expect(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::{Arg, CommandFactory};
use http::StatusCode;
use weft_sidecar::policy::breaker::{State, Transition};
use weft_sidecar::reject::{GrpcCode, Reason};
use weft_sidecar::settings::Settings;
use weft_sidecar::telemetry::metrics::{GlobalLimit, Metrics, Mirrored, TlsFailure};
use weft_sidecar::telemetry::{Answer, Direction};

const README: &str = include_str!("../README.md");
const FAMILIES: &str = include_str!("../src/telemetry/metrics/families.rs");
const ADMIN: &str = include_str!("../src/admin.rs");
const LINE: &str = include_str!("../src/telemetry/access_log/line.rs");

/// The rows of the first table under this heading, cut to their first columns.
fn rows(heading: &str, columns: usize) -> Vec<String> {
    let (_, section) = README.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| {
        panic!("sidecar/README.md has no section `## {heading}`");
    });
    let section = section.split("\n## ").next().unwrap();
    let cut = |row: &str| row.split(" | ").take(columns).collect::<Vec<_>>().join(" | ");
    let ends = |row: String| row.trim_end_matches(" |").to_owned();
    let rows = section.lines().skip_while(|line| !line.starts_with("| `"));
    rows.take_while(|line| line.starts_with("| `")).map(cut).map(ends).collect()
}

fn check(heading: &str, columns: usize, expect: &[String]) {
    let found = rows(heading, columns);
    assert!(
        found == expect,
        "the table under `## {heading}` of sidecar/README.md is not what the code has; its rows begin\n{}",
        expect.join("\n")
    );
}

fn setting(arg: &Arg) -> Option<String> {
    let values: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let default = if values.is_empty() { String::new() } else { format!("`{}`", values.join(",")) };
    let (flag, variable) = (arg.get_long()?, arg.get_env()?.display().to_string());
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    Some(format!("| `--{flag}` | `{variable}` | {default} | {help}"))
}

#[test]
fn settings_are_those_of_the_command_line() {
    let expect: Vec<String> = Settings::command().get_arguments().filter_map(setting).collect();
    check("Settings", 4, &expect);
}

/// As gRPC writes them (core concepts, status codes).
const fn grpc(code: GrpcCode) -> &'static str {
    match code {
        GrpcCode::InvalidArgument => "INVALID_ARGUMENT",
        GrpcCode::DeadlineExceeded => "DEADLINE_EXCEEDED",
        GrpcCode::NotFound => "NOT_FOUND",
        GrpcCode::PermissionDenied => "PERMISSION_DENIED",
        GrpcCode::ResourceExhausted => "RESOURCE_EXHAUSTED",
        GrpcCode::Internal => "INTERNAL",
        GrpcCode::Unavailable => "UNAVAILABLE",
        GrpcCode::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[test]
fn refusals_are_all_reasons() {
    let row = |reason: &Reason| {
        let (status, flag) = (reason.status().as_u16(), reason.flag());
        let retried = if reason.retryable() { "yes" } else { "no" };
        format!("| `{}` | {status} | {} | `{flag}` | {retried}", reason.label(), grpc(reason.grpc()))
    };
    let expect: Vec<String> = Reason::ALL.iter().map(row).collect();
    check("Refusals", 5, &expect);
}

/// Every family with one series at least: one without any is not shown.
fn touched() -> String {
    let metrics = Metrics::new("shop/order");
    let peer = metrics.peer(Direction::Outbound, "shop/product:http");
    drop(peer.started());
    peer.finished(&Answer {
        status: StatusCode::OK,
        grpc_status: Some(0),
        reject: None,
        duration: Duration::from_millis(1),
    });
    peer.retried();
    peer.retry_over_budget();
    peer.hedged();
    peer.mirrored(Mirrored::Sent);
    peer.served_stale();
    drop(peer.tcp().opened());
    peer.breaker_moved(Transition { from: State::Closed, to: State::Open });
    peer.ejected(1);
    metrics.rejected(Direction::Inbound, Reason::Forbidden);
    metrics.would_deny(Direction::Inbound);
    metrics.handshake_failed(Direction::Inbound, TlsFailure::Expired);
    metrics.global_limit(GlobalLimit::Allowed);
    metrics.certificate_renewed(10);
    metrics.encode(0)
}

/// `name{a="x",le="1"} 2`: the label names but for the two that say nothing of the family.
fn labels(sample: &str) -> Vec<String> {
    let inside = sample.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(in_, _)| in_);
    let names = inside.split("\",").filter_map(|pair| pair.split_once('=')).map(|(name, _)| name);
    names.filter(|name| !["workload", "le"].contains(name)).map(|name| format!("`{name}`")).collect()
}

#[test]
fn metrics_are_those_that_are_served() {
    let text = touched();
    let mut help = BTreeMap::new();
    let (mut expect, mut seen, mut of) = (BTreeSet::new(), BTreeSet::new(), None);
    for line in text.lines() {
        if let Some((name, words)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help.insert(name, words);
        } else if let Some(family) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            of = Some(family);
        } else if let Some((name, kind)) = of.take() {
            let words = help[name];
            expect.insert(format!("| `{name}` | {kind} | {} | {words}", labels(line).join(", ")));
            seen.insert(name);
        }
    }
    for name in FAMILIES.split('"').filter(|part| part.starts_with("weft_") || part.starts_with("process_")) {
        assert!(seen.contains(name), "{name} is registered but not touched by this test");
    }
    let expect: Vec<String> = expect.into_iter().collect();
    check("Metrics", 4, &expect);
}

/// What stands between two marks in a source file.
fn between<'s>(source: &'s str, begin: &str, end: &str) -> &'s str {
    source.split_once(begin).and_then(|(_, rest)| rest.split_once(end)).unwrap().0
}

#[test]
fn admin_pages_are_those_of_the_index() {
    let row = |line: &str| {
        let mut words = line.split_whitespace();
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        format!("| `{method} {}`", path.split('[').next().unwrap())
    };
    let expect: Vec<String> = between(ADMIN, "INDEX: &str = \"\\\n", "\";").lines().map(row).collect();
    check("Admin pages", 1, &expect);
}

#[test]
fn log_fields_are_those_of_a_line() {
    let fields = between(LINE, "struct Line<'a> {", "\n}").lines().map(str::trim);
    let fields = fields.filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(": "));
    let expect: Vec<String> = fields.map(|(name, _)| format!("| `{name}`")).collect();
    check("Access log", 1, &expect);
}
