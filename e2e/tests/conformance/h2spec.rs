//! All of [h2spec](https://github.com/summerwind/h2spec), strict cases included, against every place where HTTP/2 comes
//! in. `setup.sh conformance` builds it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;
use weft_e2e::apps::http::HttpApp;

use crate::site::{Entry, Site};

/// All cases together take a second on an idle machine; each that fails may take five.
const PATIENCE: Duration = Duration::from_mins(2);
const ROUNDS: usize = 3;

/// Cases that are not passed, by section and number, whether over TLS too, and why that is right.
const EXCEPTIONS: &[(&str, bool, &str)] = &[(
    "3.5/2:",
    false,
    "what does not begin with the preface of HTTP/2 is HTTP/1.1 on a plain port, which takes both: it is answered with \
     400 before the connection is closed, and h2spec reads that answer as a frame",
)];

/// Where `setup.sh conformance` puts it, or wherever it is installed.
#[expect(clippy::disallowed_methods, reason = "test code: the same variables as in setup.sh")]
fn program() -> PathBuf {
    let home = || std::env::var("HOME").map(|home| format!("{home}/.cache/weft-kind"));
    let cache = std::env::var("WEFT_CACHE").or_else(|_| home());
    let built = cache.map(|cache| PathBuf::from(cache).join("bin/h2spec")).unwrap_or_default();
    if built.exists() { built } else { "h2spec".into() }
}

async fn h2spec(address: SocketAddr, tls: bool) -> String {
    let mut command = Command::new(program());
    command.args([
        "--strict",
        "--timeout",
        "5",
        "--host",
        &address.ip().to_string(),
        "--port",
        &address.port().to_string(),
    ]);
    if tls {
        command.args(["--tls", "--insecure"]);
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    let ran = timeout(PATIENCE, command.output()).await.expect("h2spec ends in time");
    let output = ran
        .unwrap_or_else(|error| panic!("h2spec cannot be run ({error}): ./setup.sh conformance installs it"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Failed cases, each with its section and what was expected and found.
fn failures(report: &str) -> Vec<String> {
    let Some((_, failures)) = report.split_once("Failures:") else { return Vec::new() };
    let mut section = String::new();
    let mut all: Vec<String> = Vec::new();
    for line in failures.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(case) = line.strip_prefix('×') {
            all.push(format!("{section}/{}", case.trim()));
        } else if line.split('.').next().is_some_and(|number| number.parse::<u8>().is_ok()) {
            line.split(' ').next().unwrap_or_default().trim_end_matches('.').clone_into(&mut section);
        } else if let Some(case) = all.last_mut() {
            case.push_str("\n    ");
            case.push_str(line);
        }
    }
    all
}

async fn check(entry: Entry, tls: bool) {
    let app = HttpApp::start("product").await;
    let site = Site::new(app.addr);
    let expected = |case: &String| {
        EXCEPTIONS.iter().any(|(name, always, _)| (*always || !tls) && case.starts_with(name))
    };
    let mut failed = Vec::new();
    // Some cases race with the application's answer, so only what fails every time has failed.
    for _ in 0..ROUNDS {
        let report = h2spec(site.address(entry), tls).await;
        assert!(report.contains("146 tests, "), "h2spec did not finish at {entry:?}: {report}");
        failed = failures(&report).into_iter().filter(|case| !expected(case)).collect();
        if failed.is_empty() {
            return;
        }
    }
    panic!("{} cases fail at {entry:?}:\n{}", failed.len(), failed.join("\n"));
}

#[tokio::test]
async fn h2spec_passes_at_the_inbound_side() {
    check(Entry::Inbound, false).await;
}

#[tokio::test]
async fn h2spec_passes_at_the_inbound_side_inside_tls() {
    check(Entry::InboundPermissive, true).await;
}

#[tokio::test]
async fn h2spec_passes_at_the_outbound_side() {
    check(Entry::Outbound, false).await;
}

#[tokio::test]
async fn h2spec_passes_at_the_gateway() {
    check(Entry::Gateway, false).await;
}

#[tokio::test]
async fn h2spec_passes_at_the_gateway_inside_tls() {
    check(Entry::GatewayTls, true).await;
}
