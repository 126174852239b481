//! Spans on the wire: what an OTLP collector gets, and what happens without one.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

#[path = "support/collector.rs"]
mod collector;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode, Version};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use weft_sidecar::config::snapshot::{ProxyConfig, Snapshot};
use weft_sidecar::cx::{ConnCx, RequestCx};
use weft_sidecar::drain::Tasks;
use weft_sidecar::policy::path::NormalPath;
use weft_sidecar::reject::{Reason, Reject};
use weft_sidecar::telemetry::{Answer, Attempt, Direction, Telemetry, clock};

use collector::{Collector, DEADLINE, text};

struct Proxy {
    telemetry: Arc<Telemetry>,
    finish: CancellationToken,
    _tasks: Tasks,
}

/// Telemetry that records every trace and exports to this endpoint.
fn proxy(endpoint: &str) -> Proxy {
    let (telemetry, outlets) = Telemetry::new("shop/order");
    let (tasks, finish) = (Tasks::new(), CancellationToken::new());
    outlets.spawn(&tasks, &finish);
    let proxy = ProxyConfig {
        otlp_endpoint: (!endpoint.is_empty()).then(|| endpoint.into()),
        sampling: 1.0,
        access_log: weft_api::v1::AccessLog::Off,
        ..ProxyConfig::default()
    };
    telemetry.configure(&Snapshot { proxy, ..Snapshot::default() });
    Proxy { telemetry, finish, _tasks: tasks }
}

fn cx(telemetry: &Telemetry) -> RequestCx {
    let conn = ConnCx {
        peer: "10.0.0.7:40000".parse().unwrap(),
        identity: Some(Arc::new("spiffe://cluster.local/ns/shop/sa/gateway".parse().unwrap())),
        port: 80,
        tls: true,
    };
    RequestCx {
        id: "req-1".into(),
        trace: telemetry.trace(&mut HeaderMap::new()),
        method: Method::POST,
        version: Version::HTTP_2,
        host: "order".into(),
        client_ip: "203.0.113.9".parse().unwrap(),
        route: Some("shop/order/0".into()),
        destination: Some("shop/product:http".into()),
        endpoint: Some("10.0.0.8:15006".parse().unwrap()),
        attempts: 2,
        ..RequestCx::new(Arc::new(conn), NormalPath::parse("/orders").unwrap(), Instant::now())
    }
}

fn finish(telemetry: &Telemetry, direction: Direction, cx: RequestCx, reject: Option<Reject>) {
    let status = reject.as_ref().map_or(StatusCode::OK, |reject| reject.reason.status());
    let answer = Answer { status, grpc_status: None, reject, duration: Duration::from_millis(20) };
    let peer = telemetry.metrics.peer(direction, "shop/product:http");
    telemetry.finished(direction, &peer, cx, answer);
}

#[tokio::test]
async fn a_request_and_its_attempt_reach_the_collector_as_one_trace() {
    let mut collector = Collector::start().await;
    let proxy = proxy(&collector.endpoint);
    let cx = cx(&proxy.telemetry);
    let trace = cx.trace;
    let attempt = Attempt {
        trace: trace.child(),
        destination: "shop/product:http".into(),
        endpoint: cx.endpoint,
        number: 1,
        status: None,
        reject: Some(Reject::new(Reason::ConnectFailed)),
        duration: Duration::from_millis(3),
        ended: clock::now(),
    };
    proxy.telemetry.attempted(attempt);
    finish(&proxy.telemetry, Direction::Outbound, cx, Some(Reject::new(Reason::CircuitOpen).by("breaker")));
    proxy.finish.cancel();
    let (resource, spans) = collector.batch().await;
    assert_eq!(text(&resource, "service.name").as_deref(), Some("order"));
    assert_eq!(text(&resource, "service.namespace").as_deref(), Some("shop"));
    let [attempt, request] = spans.as_slice() else { unreachable!("two spans, not {spans:?}") };
    assert_eq!(request.trace_id, trace.trace_id.to_be_bytes());
    assert_eq!((&attempt.trace_id, &attempt.parent_span_id), (&request.trace_id, &request.span_id));
    assert!(request.parent_span_id.iter().all(|byte| *byte == 0));
    assert_eq!((request.name.as_str(), request.kind), ("POST shop/order/0", SpanKind::Client as i32));
    assert_eq!(request.end_time_unix_nano - request.start_time_unix_nano, 20_000_000);
    let value = |key: &str| text(&attempt.attributes, key).unwrap_or_default();
    assert_eq!((value("weft.attempt"), value("weft.outcome")), ("1".into(), "failed".into()));
    assert_eq!(value("weft.reason"), "connect-failed");
    let value = |key: &str| text(&request.attributes, key).unwrap_or_default();
    assert_eq!((value("weft.reason"), value("weft.policy")), ("circuit-open".into(), "breaker".into()));
    assert_eq!((value("http.response.status_code"), value("url.path")), ("503".into(), "/orders".into()));
    assert_eq!(value("http.request.resend_count"), "1");
    assert_eq!(request.status.as_ref().unwrap().code, 2);
}

#[tokio::test]
async fn a_full_queue_drops_and_never_waits() {
    let proxy = proxy("http://127.0.0.1:9");
    let started = Instant::now();
    for _ in 0..5000 {
        finish(&proxy.telemetry, Direction::Inbound, cx(&proxy.telemetry), None);
    }
    assert!(started.elapsed() < DEADLINE);
    assert!(proxy.telemetry.metrics.dropped.spans.get() >= 5000 - 2048);
}

#[tokio::test]
async fn what_a_collector_does_not_take_is_counted() {
    let proxy = proxy("http://127.0.0.1:9");
    finish(&proxy.telemetry, Direction::Inbound, cx(&proxy.telemetry), None);
    proxy.finish.cancel();
    let dropped = async {
        while proxy.telemetry.metrics.dropped.spans.get() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, dropped).await.expect("nothing was counted");
}

#[tokio::test]
async fn without_endpoint_nothing_is_queued() {
    let proxy = proxy("");
    for _ in 0..5000 {
        finish(&proxy.telemetry, Direction::Inbound, cx(&proxy.telemetry), None);
    }
    assert_eq!(proxy.telemetry.metrics.dropped.spans.get(), 0);
}

#[tokio::test]
async fn a_new_endpoint_is_used_from_then_on() {
    let mut first = Collector::start().await;
    let mut second = Collector::start().await;
    let proxy = proxy(&first.endpoint);
    finish(&proxy.telemetry, Direction::Inbound, cx(&proxy.telemetry), None);
    assert_eq!(first.batch().await.1.len(), 1);
    proxy.telemetry.spans.configure(&second.endpoint, 1.0);
    finish(&proxy.telemetry, Direction::Inbound, cx(&proxy.telemetry), None);
    proxy.finish.cancel();
    assert_eq!(second.batch().await.1[0].kind, SpanKind::Server as i32);
}
