//! What is logged in which mode, and what a line says.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, UNIX_EPOCH};

use http::{StatusCode, Version};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::cx::{ConnCx, RequestCx};
use crate::policy::path::NormalPath;
use crate::reject::{Reason, Reject};
use crate::telemetry::Direction;
use crate::telemetry::trace::TraceContext;

fn connection() -> ConnCx {
    ConnCx {
        peer: "10.0.0.7:40000".parse().unwrap(),
        identity: Some(Arc::new("spiffe://cluster.local/ns/shop/sa/gateway".parse().unwrap())),
        port: 80,
        tls: true,
    }
}

fn cx(path: &str) -> RequestCx {
    RequestCx {
        id: "req-1".into(),
        trace: TraceContext { trace_id: 0xabc, span_id: 0xdef, parent_id: 0, sampled: false },
        host: "order".into(),
        client_ip: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 9)),
        route: Some("shop/order/0".into()),
        attempts: 1,
        ..RequestCx::new(Arc::new(connection()), NormalPath::parse(path).unwrap(), Instant::now())
    }
}

fn answer(status: StatusCode, reject: Option<Reject>) -> Answer {
    Answer { status, grpc_status: None, reject, duration: Duration::from_micros(1500) }
}

fn request(path: &str, answer: Answer) -> Entry {
    let request = Request {
        direction: Direction::Inbound,
        cx: cx(path),
        answer,
        ended: UNIX_EPOCH + Duration::from_secs(1),
    };
    Entry::Request(Arc::new(request))
}

fn line_of(entry: &Entry) -> Value {
    let mut text = Vec::new();
    line::write(&mut text, entry);
    serde_json::from_slice(&text).unwrap()
}

#[tokio::test]
async fn a_refused_request_names_reason_and_policy() {
    let reject = Reject::new(Reason::Forbidden).by("shop/order/customers").because("role is `guest`");
    let line = line_of(&request("/orders", answer(StatusCode::FORBIDDEN, Some(reject))));
    assert_eq!(
        line,
        json!({
            "time": "1970-01-01T00:00:01.000Z", "direction": "inbound",
            "trace_id": "00000000000000000000000000000abc", "span_id": "0000000000000def",
            "request_id": "req-1", "method": "GET", "host": "order", "path": "/orders", "protocol": "http/1.1",
            "status": 403, "duration_ms": 1.5, "peer": "10.0.0.7:40000",
            "peer_identity": "spiffe://cluster.local/ns/shop/sa/gateway", "client_ip": "203.0.113.9",
            "route": "shop/order/0", "attempts": 1, "reason": "forbidden", "flags": "AZ",
            "policy": "shop/order/customers", "detail": "role is `guest`",
        })
    );
}

#[tokio::test]
async fn every_refusal_has_reason_and_flag_in_its_line() {
    for reason in Reason::ALL {
        let line = line_of(&request("/", answer(reason.status(), Some(Reject::new(*reason).by("rule")))));
        assert_eq!((&line["reason"], &line["flags"]), (&json!(reason.label()), &json!(reason.flag())));
        assert_eq!(line["policy"], "rule");
    }
}

#[test]
fn a_raw_connection_tells_its_bytes() {
    let connection = Connection {
        direction: Direction::Outbound,
        conn: Arc::new(ConnCx { identity: None, ..connection() }),
        destination: Some("shop/db:pg".into()),
        endpoint: Some("10.0.0.9:5432".parse().unwrap()),
        rule: None,
        reject: None,
        received: 10,
        sent: 20,
        duration: Duration::from_secs(2),
        ended: UNIX_EPOCH,
    };
    let line = line_of(&Entry::Connection(Box::new(connection)));
    assert_eq!(
        line,
        json!({
            "time": "1970-01-01T00:00:00.000Z", "direction": "outbound", "protocol": "tcp", "duration_ms": 2000.0,
            "peer": "10.0.0.7:40000", "destination": "shop/db:pg", "upstream": "10.0.0.9:5432",
            "bytes_received": 10, "bytes_sent": 20,
        })
    );
}

#[test]
fn a_refused_head_tells_who_sent_it_and_why() {
    let head = Head {
        direction: Direction::Gateway,
        conn: Arc::new(ConnCx { identity: None, ..connection() }),
        version: Version::HTTP_11,
        status: Some(StatusCode::BAD_REQUEST),
        reject: Reject::new(Reason::BadRequest).because("a line ends without CR"),
        ended: UNIX_EPOCH,
    };
    assert_eq!(
        line_of(&Entry::Head(Box::new(head))),
        json!({
            "time": "1970-01-01T00:00:00.000Z", "direction": "gateway", "protocol": "http/1.1", "status": 400,
            "duration_ms": 0.0, "peer": "10.0.0.7:40000", "reason": "bad-request", "flags": "BR",
            "detail": "a line ends without CR",
        })
    );
}

#[test]
fn the_mode_decides_what_is_logged() {
    let (log, _outlet) = queue(IntCounter::new("dropped", "dropped").unwrap());
    let ok = answer(StatusCode::OK, None);
    let failed = answer(StatusCode::NOT_FOUND, None);
    let refused = answer(StatusCode::OK, Some(Reject::new(Reason::Timeout)));
    let grpc = Answer { grpc_status: Some(14), ..answer(StatusCode::OK, None) };
    let wants = |log: &AccessLog| [&ok, &failed, &refused, &grpc].map(|answer| log.wants(answer));
    assert_eq!(wants(&log), [false; 4]);
    log.set_mode(Mode::Errors);
    assert_eq!(wants(&log), [false, true, true, true]);
    log.set_mode(Mode::All);
    assert_eq!(wants(&log), [true; 4]);
}

#[tokio::test]
async fn what_does_not_fit_is_dropped_and_counted_and_the_rest_is_written_at_the_end() {
    let dropped = IntCounter::new("dropped", "dropped").unwrap();
    let (log, outlet) = queue(dropped.clone());
    for _ in 0..QUEUE + 3 {
        log.send(request("/", answer(StatusCode::OK, None)));
    }
    assert_eq!(dropped.get(), 3);
    let finish = CancellationToken::new();
    finish.cancel();
    let mut output = Vec::new();
    outlet.run(&mut output, finish).await;
    assert_eq!(output.split(|byte| *byte == b'\n').count(), QUEUE + 1);
}

#[tokio::test]
async fn a_long_path_is_cut_and_odd_bytes_stay_one_line() {
    let long = format!("/{}", "ü".repeat(MAX));
    let line = line_of(&request(&long, answer(StatusCode::OK, None)));
    assert!(line["path"].as_str().unwrap().len() <= MAX);
}

const MAX: usize = 1024;
