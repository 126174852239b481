//! Nothing that two parties could read differently passes: refused with the right status, the connection closed, nothing
//! forwarded; and what is legal passes, in the one form that leaves no choice.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use weft_e2e::apps::raw::RawApp;

use crate::corpus::{Case, cases};
use crate::frames::{Ended, Frames};
use crate::site::{Duplex, Entry, Site};

/// For a connection to be closed: far below any timeout of the proxy.
const PATIENCE: Duration = Duration::from_secs(3);
const REQUESTS: &str = include_str!("corpus/requests.txt");
/// What an attacker would get past the checks.
const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
/// Shows that both sides still agree where requests begin, and ends the connection.
const LAST: &[u8] = b"GET /last HTTP/1.1\r\nhost: last\r\nconnection: close\r\n\r\n";

/// Writes these bytes and reads until the other side closes; whether it does.
async fn talk(stream: &mut dyn Duplex, bytes: &[u8]) -> (String, bool) {
    // The other side may refuse and close before it has read everything.
    drop(stream.write_all(bytes).await);
    drop(stream.flush().await);
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    (String::from_utf8_lossy(&answer).into_owned(), read.is_ok())
}

/// Statuses of all answers.
fn statuses(answer: &str) -> Vec<&str> {
    answer.split("HTTP/1.").skip(1).filter_map(|rest| rest.get(2..5)).collect()
}

/// What is wrong about this case at this entry; nothing, if all is as it should be.
async fn verdict(site: &Site, app: &RawApp, entry: Entry, case: &Case) -> Option<String> {
    let passes = case.expect.iter().all(|status| status == "200");
    let bytes = [&case.bytes[..], if passes { LAST } else { SMUGGLED }].concat();
    let mut stream = site.connect(entry, false).await;
    let (answer, closed) = talk(&mut *stream, &bytes).await;
    drop(stream);
    let found = statuses(&answer);
    // One request more through the same worker: what the case may have set off has happened by then.
    let mut sentinel = site.connect(entry, false).await;
    talk(&mut *sentinel, LAST).await;
    let mut forwarded = app.take().await;
    let at = forwarded.iter().rposition(|request| request.contains("host: last\r\n"))?;
    forwarded.remove(at);
    let open = (!closed).then(|| "the connection stays open".to_owned());
    open.or_else(|| judge(case, &found, &forwarded))
        .map(|wrong| format!("{wrong}\n    answered {answer:.300?}\n    forwarded {forwarded:.600?}"))
}

fn judge(case: &Case, found: &[&str], forwarded: &[String]) -> Option<String> {
    let whole = forwarded.concat();
    if whole.contains("/smuggled") && !case.bytes.windows(9).any(|piece| piece == b"/smuggled") {
        return Some("the next request was smuggled through".to_owned());
    }
    if case.expect == ["cut"] {
        let good = found.iter().any(|status| status.starts_with('2'));
        let complete = whole.contains("\r\n0\r\n");
        return (good || complete).then(|| "passed although its body is broken".to_owned());
    }
    let mut expect: Vec<&str> = case.expect.iter().map(String::as_str).collect();
    if expect.iter().all(|&status| status == "200") {
        expect.push("200");
    }
    let fits = expect.len() == found.len()
        && expect.iter().zip(found).all(|(allowed, status)| allowed.split('/').any(|one| one == *status));
    if !fits {
        return Some(format!("answered {found:?}, not {expect:?}"));
    }
    let good = expect.iter().filter(|&&status| status == "200").count();
    if forwarded.len() != good {
        return Some(format!("{} requests were forwarded, not {good}", forwarded.len()));
    }
    let lower = whole.to_ascii_lowercase();
    let missing = case.holds.iter().find(|piece| !lower.contains(&piece.to_ascii_lowercase()));
    let extra = case.lacks.iter().find(|piece| lower.contains(&piece.to_ascii_lowercase()));
    missing
        .map(|piece| format!("{piece:?} is not forwarded"))
        .or(extra.map(|piece| format!("{piece:?} is forwarded")))
}

async fn check(entry: Entry) {
    let (site, app) = Site::recording().await;
    let mut wrong = Vec::new();
    for case in cases(REQUESTS) {
        if let Some(found) = verdict(&site, &app, entry, &case).await {
            wrong.push(format!("{}: {found}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} cases at {entry:?}:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn nothing_ambiguous_passes_the_inbound_side() {
    check(Entry::Inbound).await;
}

#[tokio::test]
async fn nothing_ambiguous_passes_the_inbound_side_inside_mutual_tls() {
    check(Entry::InboundTls).await;
}

#[tokio::test]
async fn nothing_ambiguous_passes_the_outbound_side() {
    check(Entry::Outbound).await;
}

#[tokio::test]
async fn nothing_ambiguous_passes_the_gateway() {
    check(Entry::Gateway).await;
}

#[tokio::test]
async fn nothing_ambiguous_passes_the_gateway_inside_tls() {
    check(Entry::GatewayTls).await;
}

/// A request over HTTP/2 as its fields, and what its DATA frames hold.
type Request = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);

const METHOD: (&str, &str) = (":method", "POST");
const SCHEME: (&str, &str) = (":scheme", "http");
const PATH: (&str, &str) = (":path", "/x");
const AUTHORITY: (&str, &str) = (":authority", "a");

/// What would become two requests, or another one, on the HTTP/1.1 hop behind the proxy (RFC 9113, section 10.3).
const DOWNGRADES: &[Request] = &[
    (
        "transfer-encoding",
        &[METHOD, SCHEME, PATH, AUTHORITY, ("transfer-encoding", "chunked")],
        &["0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n"],
    ),
    ("connection", &[METHOD, SCHEME, PATH, AUTHORITY, ("connection", "close")], &[]),
    (
        "connection that nominates",
        &[METHOD, SCHEME, PATH, AUTHORITY, ("connection", "x-a"), ("x-a", "1")],
        &[],
    ),
    ("keep-alive", &[METHOD, SCHEME, PATH, AUTHORITY, ("keep-alive", "timeout=5")], &[]),
    ("proxy-connection", &[METHOD, SCHEME, PATH, AUTHORITY, ("proxy-connection", "keep-alive")], &[]),
    ("upgrade", &[METHOD, SCHEME, PATH, AUTHORITY, ("upgrade", "websocket")], &[]),
    ("te that is not trailers", &[METHOD, SCHEME, PATH, AUTHORITY, ("te", "chunked")], &[]),
    ("CR LF in a value", &[METHOD, SCHEME, PATH, AUTHORITY, ("x", "y\r\ntransfer-encoding: chunked")], &[]),
    ("LF in a value", &[METHOD, SCHEME, PATH, AUTHORITY, ("x", "y\ntransfer-encoding: chunked")], &[]),
    ("CR in a value", &[METHOD, SCHEME, PATH, AUTHORITY, ("x", "y\rz")], &[]),
    ("NUL in a value", &[METHOD, SCHEME, PATH, AUTHORITY, ("x", "y\0z")], &[]),
    ("CR LF in a name", &[METHOD, SCHEME, PATH, AUTHORITY, ("x: y\r\nhost", "b")], &[]),
    ("colon in a name", &[METHOD, SCHEME, PATH, AUTHORITY, ("x: y", "z")], &[]),
    ("space in a name", &[METHOD, SCHEME, PATH, AUTHORITY, ("x ", "z")], &[]),
    ("empty name", &[METHOD, SCHEME, PATH, AUTHORITY, ("", "z")], &[]),
    ("upper-case name", &[METHOD, SCHEME, PATH, AUTHORITY, ("X-A", "z")], &[]),
    ("space in :path", &[METHOD, SCHEME, (":path", "/x HTTP/1.1"), AUTHORITY], &[]),
    (
        "CR LF in :path",
        &[METHOD, SCHEME, (":path", "/x HTTP/1.1\r\nhost: b\r\n\r\nGET /smuggled"), AUTHORITY],
        &[],
    ),
    ("empty :path", &[METHOD, SCHEME, (":path", ""), AUTHORITY], &[]),
    (":path without a slash", &[METHOD, SCHEME, (":path", "x"), AUTHORITY], &[]),
    (":path that is a whole URI", &[METHOD, SCHEME, (":path", "http://b/x"), AUTHORITY], &[]),
    ("asterisk without OPTIONS", &[METHOD, SCHEME, (":path", "*"), AUTHORITY], &[]),
    ("space in :method", &[(":method", "GET /smuggled HTTP/1.1"), SCHEME, PATH, AUTHORITY], &[]),
    (
        "CR LF in :method",
        &[(":method", "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET"), SCHEME, PATH, AUTHORITY],
        &[],
    ),
    ("empty :method", &[(":method", ""), SCHEME, PATH, AUTHORITY], &[]),
    ("no :method", &[SCHEME, PATH, AUTHORITY], &[]),
    ("no :scheme", &[METHOD, PATH, AUTHORITY], &[]),
    ("no :path", &[METHOD, SCHEME, AUTHORITY], &[]),
    ("CR LF in :authority", &[METHOD, SCHEME, PATH, (":authority", "a\r\nx: y")], &[]),
    ("space in :authority", &[METHOD, SCHEME, PATH, (":authority", "a b")], &[]),
    ("path in :authority", &[METHOD, SCHEME, PATH, (":authority", "a/b")], &[]),
    ("user information in :authority", &[METHOD, SCHEME, PATH, (":authority", "b@a")], &[]),
    (":authority and another host", &[METHOD, SCHEME, PATH, AUTHORITY, ("host", "b")], &[]),
    ("two hosts", &[METHOD, SCHEME, PATH, ("host", "a"), ("host", "b")], &[]),
    ("two :path", &[METHOD, SCHEME, PATH, (":path", "/y"), AUTHORITY], &[]),
    ("two :method", &[METHOD, (":method", "GET"), SCHEME, PATH, AUTHORITY], &[]),
    ("two :authority", &[METHOD, SCHEME, PATH, AUTHORITY, (":authority", "b")], &[]),
    ("unknown pseudo-header", &[METHOD, SCHEME, PATH, AUTHORITY, (":x", "y")], &[]),
    (":status in a request", &[METHOD, SCHEME, PATH, AUTHORITY, (":status", "200")], &[]),
    (":protocol without CONNECT", &[METHOD, SCHEME, PATH, AUTHORITY, (":protocol", "websocket")], &[]),
    ("pseudo-header after a field", &[METHOD, SCHEME, PATH, ("x", "y"), AUTHORITY], &[]),
    ("CONNECT with a path", &[(":method", "CONNECT"), SCHEME, PATH, AUTHORITY], &[]),
    (
        "length too short",
        &[METHOD, SCHEME, PATH, AUTHORITY, ("content-length", "3")],
        &["helloGET /smuggled HTTP/1.1\r\n\r\n"],
    ),
    ("length too long", &[METHOD, SCHEME, PATH, AUTHORITY, ("content-length", "50")], &["hello"]),
    ("length without a body", &[METHOD, SCHEME, PATH, AUTHORITY, ("content-length", "35")], &[]),
    ("length that is no number", &[METHOD, SCHEME, PATH, AUTHORITY, ("content-length", "+5")], &["hello"]),
    (
        "two lengths",
        &[METHOD, SCHEME, PATH, AUTHORITY, ("content-length", "5"), ("content-length", "6")],
        &["hello"],
    ),
];

/// Refused: its stream or connection reset, or answered with 400, and never whole at the application.
async fn check_downgrades(entry: Entry) {
    let (site, app) = Site::recording().await;
    let mut wrong = Vec::new();
    for (name, fields, data) in DOWNGRADES {
        let mut frames = Frames::over(site.connect(entry, true).await).await;
        frames.headers(1, fields, data.is_empty()).await;
        for (index, piece) in data.iter().enumerate() {
            frames.data(1, piece.as_bytes(), index + 1 == data.len()).await;
        }
        let ended = timeout(Duration::from_secs(5), frames.ended(1)).await;
        let refused = match ended {
            Ok(Ended::Status(status)) => matches!(status, 400 | 431 | 501),
            Ok(Ended::Reset(_) | Ended::GoAway(_) | Ended::Closed) => true,
            Err(_) => false,
        };
        drop(frames);
        let mut sentinel = site.connect(entry, false).await;
        talk(&mut *sentinel, LAST).await;
        let forwarded = app.take().await;
        let mut others = forwarded.iter().filter(|request| !request.contains("host: last\r\n"));
        let whole = others.any(|request| is_whole(request) || request.contains("/smuggled"));
        if !refused || whole {
            wrong.push(format!("{name}: {ended:?}, forwarded {forwarded:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} cases at {entry:?}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Whether an application would have served this.
fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: "));
    match length {
        Some(length) => length.parse().is_ok_and(|length: usize| body.len() >= length),
        None if head.contains("transfer-encoding") => body.contains("0\r\n\r\n"),
        None => true,
    }
}

#[tokio::test]
async fn nothing_of_http_2_becomes_another_request_behind_the_inbound_side() {
    check_downgrades(Entry::Inbound).await;
}

#[tokio::test]
async fn nothing_of_http_2_becomes_another_request_behind_the_outbound_side() {
    check_downgrades(Entry::Outbound).await;
}

#[tokio::test]
async fn nothing_of_http_2_becomes_another_request_behind_the_gateway() {
    check_downgrades(Entry::GatewayTls).await;
}
