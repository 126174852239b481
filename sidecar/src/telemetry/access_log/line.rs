//! One line of the access log: the fields and their order. Fields without value are left out.

use std::net::SocketAddr;

use serde::Serialize;

use crate::reject::Reject;
use crate::telemetry::access_log::{Entry, Head};
use crate::telemetry::{Connection, Request, clock};

/// Longest path that is logged whole.
const MAX_PATH: usize = 1024;

#[derive(Debug, Default, Serialize)]
struct Line<'a> {
    time: String,
    direction: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    span_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grpc_status: Option<u8>,
    duration_ms: f64,
    peer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_identity: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<SocketAddr>,
    #[serde(skip_serializing_if = "is_zero")]
    attempts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flags: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_received: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_sent: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// Appends the line of this entry.
pub(super) fn write(text: &mut Vec<u8>, entry: &Entry) {
    let line = match entry {
        Entry::Request(request) => of_request(request),
        Entry::Connection(connection) => of_connection(connection),
        Entry::Head(head) => of_head(head),
    };
    serde_json::to_writer(&mut *text, &line).expect("a flat struct of texts and numbers, written to memory");
    text.push(b'\n');
}

fn of_request(request: &Request) -> Line<'_> {
    let Request { direction, cx, answer, ended } = request;
    let line = Line {
        time: clock::rfc3339(*ended),
        direction: direction.label(),
        trace_id: Some(cx.trace.trace_id_hex()),
        span_id: Some(format!("{:016x}", cx.trace.span_id)),
        request_id: Some(&cx.id),
        method: Some(cx.method.as_str()),
        host: Some(&cx.host),
        path: Some(shorten(cx.path.as_str())),
        protocol: Some(protocol(cx.version, cx.grpc)),
        status: Some(answer.status.as_u16()),
        grpc_status: answer.grpc_status,
        duration_ms: milliseconds(answer.duration),
        peer: cx.conn.peer.to_string(),
        peer_identity: cx.conn.identity.as_deref().map(weft_api::spiffe::SpiffeId::as_str),
        client_ip: (cx.client_ip != cx.conn.peer.ip()).then(|| cx.client_ip.to_string()),
        route: cx.route.as_deref(),
        rule: cx.rule.as_deref(),
        destination: cx.destination.as_deref(),
        upstream: cx.endpoint,
        attempts: cx.attempts,
        ..Line::default()
    };
    with_refusal(line, answer.reject.as_ref())
}

fn of_connection(connection: &Connection) -> Line<'_> {
    let line = Line {
        time: clock::rfc3339(connection.ended),
        direction: connection.direction.label(),
        protocol: Some("tcp"),
        duration_ms: milliseconds(connection.duration),
        peer: connection.conn.peer.to_string(),
        peer_identity: connection.conn.identity.as_deref().map(weft_api::spiffe::SpiffeId::as_str),
        rule: connection.rule.as_deref(),
        destination: connection.destination.as_deref(),
        upstream: connection.endpoint,
        bytes_received: Some(connection.received),
        bytes_sent: Some(connection.sent),
        ..Line::default()
    };
    with_refusal(line, connection.reject.as_ref())
}

fn of_head(head: &Head) -> Line<'_> {
    let line = Line {
        time: clock::rfc3339(head.ended),
        direction: head.direction.label(),
        protocol: Some(protocol(head.version, false)),
        status: head.status.map(|status| status.as_u16()),
        peer: head.conn.peer.to_string(),
        peer_identity: head.conn.identity.as_deref().map(weft_api::spiffe::SpiffeId::as_str),
        ..Line::default()
    };
    with_refusal(line, Some(&head.reject))
}

fn with_refusal<'a>(line: Line<'a>, reject: Option<&'a Reject>) -> Line<'a> {
    let Some(reject) = reject else { return line };
    Line {
        reason: Some(reject.reason.label()),
        flags: Some(reject.reason.flag()),
        policy: reject.policy.as_deref(),
        detail: reject.detail.as_deref(),
        ..line
    }
}

const fn protocol(version: http::Version, grpc: bool) -> &'static str {
    match version {
        _ if grpc => "grpc",
        http::Version::HTTP_2 => "http/2",
        http::Version::HTTP_10 => "http/1.0",
        _ => "http/1.1",
    }
}

fn shorten(path: &str) -> &str {
    path.get(..path.floor_char_boundary(MAX_PATH)).unwrap_or(path)
}

/// Microseconds are as fine as the clock deserves.
fn milliseconds(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1000.0
}
