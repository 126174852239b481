//! Finished spans in OpenTelemetry's form, with the attribute names of its semantic conventions for HTTP; what is
//! Weft's own starts with `weft.`.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::reject::Reject;
use crate::telemetry::export::Finished;
use crate::telemetry::trace::TraceContext;
use crate::telemetry::{Attempt, Direction, Request};

/// Who these spans are from.
pub(super) fn resource(workload: &str) -> Resource {
    let (namespace, service) = workload.split_once('/').unwrap_or(("", workload));
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", service.to_owned()),
            KeyValue::new("service.namespace", namespace.to_owned()),
            KeyValue::new("telemetry.sdk.name", "weft-proxy"),
            KeyValue::new("telemetry.sdk.language", "rust"),
            KeyValue::new("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        ])
        .build()
}

/// The span in OpenTelemetry's form.
pub(super) fn data(finished: &Finished) -> SpanData {
    match finished {
        Finished::Request(request) => of_request(request),
        Finished::Attempt(attempt) => of_attempt(attempt),
    }
}

fn of_request(request: &Request) -> SpanData {
    let Request { direction, cx, answer, ended } = request;
    let kind = if *direction == Direction::Outbound { SpanKind::Client } else { SpanKind::Server };
    let mut attributes = vec![
        KeyValue::new("weft.direction", direction.label()),
        KeyValue::new("http.request.method", cx.method.as_str().to_owned()),
        KeyValue::new("url.path", cx.path.as_str().to_owned()),
        KeyValue::new("url.scheme", if cx.conn.tls { "https" } else { "http" }),
        KeyValue::new("server.address", cx.host.to_string()),
        KeyValue::new("client.address", cx.client_ip.to_string()),
        KeyValue::new("network.peer.address", cx.conn.peer.ip().to_string()),
        KeyValue::new("http.response.status_code", i64::from(answer.status.as_u16())),
        KeyValue::new("weft.request_id", cx.id.to_string()),
    ];
    let mut add = |name: &'static str, value: Option<String>| {
        attributes.extend(value.map(|value| KeyValue::new(name, value)));
    };
    add("http.route", cx.route.as_deref().map(str::to_owned));
    add("weft.rule", cx.rule.as_deref().map(str::to_owned));
    add("weft.destination", cx.destination.as_deref().map(str::to_owned));
    add("weft.endpoint", cx.endpoint.map(|endpoint| endpoint.to_string()));
    add("weft.peer", cx.conn.identity.as_ref().map(|identity| identity.as_str().to_owned()));
    add("rpc.grpc.status_code", answer.grpc_status.map(|code| code.to_string()));
    if cx.attempts > 1 {
        attributes.push(KeyValue::new("http.request.resend_count", i64::from(cx.attempts - 1)));
    }
    let name =
        cx.route.as_deref().map_or_else(|| cx.method.to_string(), |route| format!("{} {route}", cx.method));
    let (started, status) = (before(*ended, answer.duration), status(&kind, answer.status));
    refused(&mut attributes, answer.reject.as_ref());
    span(&cx.trace, kind, name, (started, *ended), (attributes, status))
}

fn of_attempt(attempt: &Attempt) -> SpanData {
    let ended = match (attempt.status, &attempt.reject) {
        (Some(_), _) => "answered",
        (None, Some(_)) => "failed",
        (None, None) => "given-up",
    };
    let mut attributes = vec![
        KeyValue::new("weft.destination", attempt.destination.to_string()),
        KeyValue::new("weft.attempt", i64::try_from(attempt.number).unwrap_or(i64::MAX)),
        KeyValue::new("weft.outcome", ended),
    ];
    if attempt.number > 1 {
        let before = i64::try_from(attempt.number - 1).unwrap_or(i64::MAX);
        attributes.push(KeyValue::new("http.request.resend_count", before));
    }
    if let Some(endpoint) = attempt.endpoint {
        attributes.push(KeyValue::new("network.peer.address", endpoint.ip().to_string()));
        attributes.push(KeyValue::new("network.peer.port", i64::from(endpoint.port())));
    }
    let mut outcome = Status::Unset;
    if let Some(code) = attempt.status {
        attributes.push(KeyValue::new("http.response.status_code", i64::from(code.as_u16())));
        outcome = status(&SpanKind::Client, code);
    } else if let Some(reject) = &attempt.reject {
        outcome = Status::error(reject.reason.label());
    }
    refused(&mut attributes, attempt.reject.as_ref());
    let times = (before(attempt.ended, attempt.duration), attempt.ended);
    let name = format!("attempt {}", attempt.destination);
    span(&attempt.trace, SpanKind::Client, name, times, (attributes, outcome))
}

fn refused(attributes: &mut Vec<KeyValue>, reject: Option<&Reject>) {
    let Some(reject) = reject else { return };
    attributes.push(KeyValue::new("error.type", reject.reason.label()));
    attributes.push(KeyValue::new("weft.reason", reject.reason.label()));
    attributes.extend(reject.policy.as_ref().map(|policy| KeyValue::new("weft.policy", policy.to_string())));
}

/// 4xx is an error to the caller, not to the server (semantic conventions for HTTP spans, "Status").
fn status(kind: &SpanKind, status: StatusCode) -> Status {
    if status.is_server_error() || (*kind == SpanKind::Client && status.is_client_error()) {
        Status::error("")
    } else {
        Status::Unset
    }
}

fn before(ended: SystemTime, duration: Duration) -> SystemTime {
    ended.checked_sub(duration).unwrap_or(ended)
}

fn span(
    trace: &TraceContext,
    kind: SpanKind,
    name: String,
    (start_time, end_time): (SystemTime, SystemTime),
    (attributes, status): (Vec<KeyValue>, Status),
) -> SpanData {
    let flags = if trace.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let ids = (TraceId::from(trace.trace_id), SpanId::from(trace.span_id));
    SpanData {
        span_context: SpanContext::new(ids.0, ids.1, flags, false, TraceState::NONE),
        parent_span_id: SpanId::from(trace.parent_id),
        parent_span_is_remote: kind == SpanKind::Server,
        span_kind: kind,
        name: name.into(),
        start_time,
        end_time,
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status,
        instrumentation_scope: InstrumentationScope::builder("weft-proxy").build(),
    }
}
