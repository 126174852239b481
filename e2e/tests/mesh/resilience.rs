//! Timeouts, retries, the breaker, ejection, limits, stale answers, faults and rate limits through real proxies. Their
//! arithmetic is tested on explicit clocks beside the policies; here it is that the path obeys them.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use weft_e2e::apps::http::HttpApp;
use weft_e2e::client::{get, request, send};
use weft_e2e::eventually;
use weft_e2e::mesh::Mesh;

use crate::{PRODUCT, order_and_product};

async fn breaker_state(mesh: &Mesh) -> String {
    let breakers: serde_json::Value = get(mesh.page("order-0", "admin"), "/breakers").await.json();
    let text = breakers.to_string();
    ["HALF_OPEN", "OPEN", "CLOSED"].into_iter().find(|state| text.contains(state)).unwrap_or(&text).to_owned()
}

#[tokio::test]
async fn a_slow_answer_is_cut_at_the_timeout() {
    let (mesh, app) = order_and_product("  resilience: {timeout: 200ms}").await;
    app.delay(Duration::from_secs(5));
    let answer = get(mesh.outbound("order-0", PRODUCT), "/x").await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (504, "timeout"));
}

#[tokio::test]
async fn a_body_larger_than_the_service_takes_is_refused() {
    let (mesh, app) = order_and_product("  resilience: {limits: {body: 2Ki}}").await;
    let outbound = mesh.outbound("order-0", PRODUCT);
    let post = |size| request("POST", "/x").body(Bytes::from(vec![b'x'; size])).unwrap();
    assert_eq!(send(outbound, post(2048)).await.status, 200);
    let refused = send(outbound, post(2049)).await;
    assert_eq!((refused.status.as_u16(), refused.reason()), (413, "body-too-large"));
    assert_eq!(app.count(), 1, "what is known to be too large does not reach it");
    // Of unknown length, in two pieces that are too much only together.
    let mut stream = TcpStream::connect(outbound).await.unwrap();
    let chunk = format!("500\r\n{}\r\n", "x".repeat(0x500));
    let head = "POST /x HTTP/1.1\r\nhost: product\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    drop(stream.write_all(format!("{head}{chunk}{chunk}0\r\n\r\n").as_bytes()).await);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn nothing_that_reached_the_application_is_repeated_unless_retries_say_so() {
    let (mesh, app) = order_and_product("").await;
    app.answer_with(503);
    assert_eq!(get(mesh.outbound("order-0", PRODUCT), "/x").await.status, 503);
    assert_eq!(app.count(), 1);
}

#[tokio::test]
async fn an_application_that_sounds_like_a_proxy_is_not_asked_twice() {
    let (mut mesh, app) = order_and_product("").await;
    let other = HttpApp::start("other").await;
    mesh.add("product-1", &[("http", other.addr)]);
    for app in [&app, &other] {
        app.answer_with(503);
        app.add_header("x-weft-reason", "draining");
    }
    let answer = get(mesh.outbound("order-0", PRODUCT), "/x").await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (503, ""));
    assert_eq!(app.count() + other.count(), 1);
}

#[tokio::test]
async fn a_request_goes_elsewhere_where_the_application_of_an_instance_is_gone() {
    let (mut mesh, app) = order_and_product("  loadBalancing: {policy: RoundRobin}").await;
    let gone = HttpApp::start("gone").await;
    mesh.add("product-1", &[("http", gone.addr)]);
    gone.stop().await;
    for _ in 0..6 {
        let post = request("POST", "/x").body(Bytes::new()).unwrap();
        assert_eq!(send(mesh.outbound("order-0", PRODUCT), post).await.status, 200);
    }
    assert_eq!(app.count(), 6);
}

#[tokio::test]
async fn retries_repeat_a_failed_request_with_its_body() {
    let spec = "  resilience:
    retries: {attempts: 3, backoff: {base: 10ms, max: 50ms, jitter: 0.5}, retryOn: [503]}";
    let (mesh, app) = order_and_product(spec).await;
    app.answer_with(503);
    let post = request("POST", "/x").body(Bytes::from("payload")).unwrap();
    assert_eq!(send(mesh.outbound("order-0", PRODUCT), post).await.status, 503);
    let seen = app.seen();
    assert_eq!(seen.len(), 4, "one request and three retries");
    assert!(seen.iter().all(|seen| seen.body == "payload"));
}

#[tokio::test]
async fn the_budget_ends_a_storm_of_retries() {
    let spec = "  resilience:
    retries: {attempts: 3, backoff: {base: 1ms, max: 2ms}, retryOn: [503], budget: {percent: 0, minPerSecond: 1}}";
    let (mesh, app) = order_and_product(spec).await;
    app.answer_with(503);
    for _ in 0..20 {
        get(mesh.outbound("order-0", PRODUCT), "/x").await;
    }
    let retries = app.count() - 20;
    // One a second, saved up for ten seconds, and what comes in while this runs; without budget there would be 60.
    assert!((1..=20).contains(&retries), "{retries} retries of 20 requests");
}

const HEDGE: &str = "  loadBalancing: {policy: RoundRobin}
  resilience:
    retries: {attempts: 1, retryOn: [connect], hedge: {after: 100ms, max: 1}";

/// Two products behind a hedge, of which the one returned last is slow.
async fn slow_and_fast(budget: &str) -> (Mesh, HttpApp, HttpApp) {
    let (mut mesh, fast) = order_and_product(&format!("{HEDGE}{budget}}}")).await;
    let slow = HttpApp::start("slow").await;
    slow.delay(Duration::from_secs(30));
    mesh.add("product-1", &[("http", slow.addr)]);
    (mesh, fast, slow)
}

#[tokio::test]
async fn a_slow_get_is_hedged_and_the_first_good_answer_counts() {
    let (mesh, fast, slow) = slow_and_fast("").await;
    let outbound = mesh.outbound("order-0", PRODUCT);
    for _ in 0..4 {
        assert_eq!(get(outbound, "/x").await.seen().app, "product");
    }
    assert_eq!(fast.count(), 4);
    let text = get(mesh.page("order-0", "metrics"), "/metrics").await.text();
    let hedges = text.lines().find(|line| line.starts_with("weft_hedges_total")).unwrap_or_default();
    assert!(slow.count() > 0 && hedges.ends_with(&format!(" {}", slow.count())), "{hedges}");
}

#[tokio::test]
async fn a_hedge_that_fails_leaves_the_first_attempt_to_answer() {
    let (mesh, fast, slow) = slow_and_fast("").await;
    fast.answer_with(503);
    slow.delay(Duration::from_millis(400));
    let outbound = mesh.outbound("order-0", PRODUCT);
    let answers = [get(outbound, "/x").await, get(outbound, "/x").await];
    let statuses = answers.each_ref().map(|answer| answer.status.as_u16());
    assert!(statuses.contains(&200), "{statuses:?}");
    assert_eq!(slow.count(), 1);
}

#[tokio::test]
async fn what_may_not_be_made_twice_is_not_hedged() {
    let (mesh, fast, slow) = slow_and_fast("").await;
    slow.delay(Duration::from_millis(400));
    let outbound = mesh.outbound("order-0", PRODUCT);
    for _ in 0..2 {
        let post = request("POST", "/x").body(Bytes::from("payload")).unwrap();
        assert_eq!(send(outbound, post).await.status, 200);
    }
    assert_eq!((fast.count(), slow.count()), (1, 1));
}

#[tokio::test]
async fn the_retry_budget_holds_for_hedges() {
    let (mesh, fast, slow) = slow_and_fast(", budget: {percent: 0, minPerSecond: 0}").await;
    slow.delay(Duration::from_millis(300));
    let outbound = mesh.outbound("order-0", PRODUCT);
    let apps = [get(outbound, "/x").await.seen().app, get(outbound, "/x").await.seen().app];
    assert!(apps.contains(&"slow".to_owned()), "{apps:?}");
    assert_eq!((fast.count(), slow.count()), (1, 1));
}

const BREAKER: &str = "  resilience:
    circuitBreaker: {consecutiveFailures: 3, openFor: 1s, halfOpenRequests: 1}";

#[tokio::test]
async fn the_breaker_opens_refuses_tries_and_closes() {
    let (mesh, app) = order_and_product(BREAKER).await;
    let outbound = mesh.outbound("order-0", PRODUCT);
    app.answer_with(503);
    for _ in 0..3 {
        assert_eq!(get(outbound, "/x").await.reason(), "");
    }
    let refused = get(outbound, "/x").await;
    assert_eq!((refused.status.as_u16(), refused.reason()), (503, "circuit-open"));
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(app.count(), 3, "an open breaker sends nothing");
    assert_eq!(breaker_state(&mesh).await, "OPEN");
    app.answer_with(200);
    eventually("the breaker lets a trial through and closes", async || {
        (get(outbound, "/x").await.status == 200).then_some(())
    })
    .await;
    assert_eq!(breaker_state(&mesh).await, "CLOSED");
}

#[tokio::test]
async fn a_failed_trial_opens_the_breaker_again() {
    let (mesh, app) = order_and_product(BREAKER).await;
    let outbound = mesh.outbound("order-0", PRODUCT);
    app.answer_with(503);
    for _ in 0..3 {
        get(outbound, "/x").await;
    }
    eventually("a trial fails", async || {
        let answer = get(outbound, "/x").await;
        (answer.reason() != "circuit-open").then_some(())
    })
    .await;
    assert_eq!(get(outbound, "/x").await.reason(), "circuit-open");
    assert_eq!(app.count(), 4, "one trial only");
}

#[tokio::test]
async fn a_breaker_can_be_reset_by_hand() {
    let (mesh, app) = order_and_product(&BREAKER.replace("1s", "1h")).await;
    let outbound = mesh.outbound("order-0", PRODUCT);
    app.answer_with(503);
    for _ in 0..3 {
        get(outbound, "/x").await;
    }
    assert_eq!(breaker_state(&mesh).await, "OPEN");
    app.answer_with(200);
    let reset = request("POST", "/breakers/reset?destination=shop/product:http").body("".into()).unwrap();
    assert!(send(mesh.page("order-0", "admin"), reset).await.status.is_success());
    assert_eq!(get(outbound, "/x").await.status, 200);
}

#[tokio::test]
async fn the_last_good_answer_is_served_while_the_breaker_is_open() {
    let spec = format!("{BREAKER}\n    fallback: {{stale: 10m}}").replace("1s", "1h");
    let (mesh, app) = order_and_product(&spec).await;
    let outbound = mesh.outbound("order-0", PRODUCT);
    let good = get(outbound, "/products/1").await;
    app.answer_with(503);
    for _ in 0..3 {
        get(outbound, "/failing").await;
    }
    let stale = get(outbound, "/products/1").await;
    assert_eq!(stale.status, 200);
    assert_eq!(stale.header("x-weft-stale"), "true");
    assert_eq!(stale.body, good.body);
    assert_eq!(get(outbound, "/products/2").await.reason(), "circuit-open", "never asked for before");
    let post = request("POST", "/products/1").body("".into()).unwrap();
    assert_eq!(send(outbound, post).await.reason(), "circuit-open", "only GET is served stale");
}

#[tokio::test]
async fn a_failing_endpoint_is_ejected_and_the_other_serves() {
    let spec = "  loadBalancing: {policy: RoundRobin}
  resilience: {outlierDetection: {consecutiveFailures: 2, eject: 1h, maxEjectedPercent: 50}}";
    let (mut mesh, good) = order_and_product(spec).await;
    let bad = HttpApp::start("bad").await;
    bad.answer_with(500);
    mesh.add("product-1", &[("http", bad.addr)]);
    for _ in 0..10 {
        get(mesh.outbound("order-0", PRODUCT), "/x").await;
    }
    let before = bad.count();
    assert!((2..=3).contains(&before), "{before} requests before it was ejected");
    for _ in 0..10 {
        assert_eq!(get(mesh.outbound("order-0", PRODUCT), "/x").await.status, 200);
    }
    assert_eq!(bad.count(), before);
    assert!(good.count() >= 15);
}

#[tokio::test]
async fn overflow_is_refused_and_ejects_nothing() {
    let spec = "  resilience:
    limits: {requests: 2, pending: 1, connections: 16}
    circuitBreaker: {consecutiveFailures: 1, openFor: 1h}";
    let (mesh, app) = order_and_product(spec).await;
    let outbound = mesh.outbound("order-0", PRODUCT);
    app.delay(Duration::from_millis(300));
    let mut calls = JoinSet::new();
    for _ in 0..10 {
        calls.spawn(async move { get(outbound, "/x").await });
    }
    let answers = calls.join_all().await;
    let refused = answers.iter().filter(|answer| answer.reason() == "overflow").count();
    assert!(refused >= 5, "{refused} of 10 refused");
    assert!(answers.iter().any(|answer| answer.status == 200));
    app.delay(Duration::ZERO);
    assert_eq!(get(outbound, "/x").await.status, 200, "the breaker did not take overflow for a failure");
}

#[tokio::test]
async fn faults_are_injected_at_their_share() {
    let spec = "  resilience: {faults: [{percent: 100, abort: {status: 418}}]}";
    let (mesh, app) = order_and_product(spec).await;
    let answer = get(mesh.outbound("order-0", PRODUCT), "/x").await;
    assert_eq!((answer.status.as_u16(), answer.reason()), (418, "fault-injected"));
    assert_eq!(app.count(), 0);
}

#[tokio::test]
async fn a_fault_meets_only_the_requests_that_it_names() {
    let spec =
        "  resilience: {faults: [{percent: 100, abort: {status: 503}, when: {headers: {x-chaos: [abort]}}}]}";
    let (mesh, app) = order_and_product(spec).await;
    let outbound = mesh.outbound("order-0", PRODUCT);
    assert_eq!(get(outbound, "/x").await.status, 200);
    let chaos = request("GET", "/x").header("x-chaos", "abort").body("".into()).unwrap();
    assert_eq!(send(outbound, chaos).await.reason(), "fault-injected");
    assert_eq!(app.count(), 1);
}

#[tokio::test]
async fn a_rate_limit_refuses_with_429_and_says_when_to_come_back() {
    let spec = "  rateLimits: [{requests: 5, per: 1h, burst: 5, key: \"header:x-client\"}]";
    let (mesh, _app) = order_and_product(spec).await;
    let call = async |client: &str| {
        let request = request("GET", "/x").header("x-client", client).body("".into()).unwrap();
        send(mesh.outbound("order-0", PRODUCT), request).await
    };
    let mut refused = 0;
    for _ in 0..20 {
        let answer = call("a").await;
        if answer.status == 429 {
            assert_eq!(answer.reason(), "rate-limited");
            assert!(!answer.header("retry-after").is_empty());
            assert_eq!((answer.header("ratelimit-limit"), answer.header("ratelimit-remaining")), ("5", "0"));
            refused += 1;
        }
    }
    assert!((10..=15).contains(&refused), "{refused} of 20 refused");
    assert_eq!(call("b").await.status, 200, "another client has a bucket of its own");
}

#[tokio::test]
async fn every_answer_tells_what_is_left_of_a_window_that_says_so() {
    let spec = "  rateLimits: [{requests: 3, per: 1h, algorithm: SlidingWindow, headers: All}]";
    let (mesh, _app) = order_and_product(spec).await;
    let mut left = Vec::new();
    for _ in 0..4 {
        let answer = get(mesh.outbound("order-0", PRODUCT), "/x").await;
        assert_eq!((answer.header("ratelimit-limit"), answer.header("ratelimit-reset")), ("3", "3600"));
        left.push((answer.status.as_u16(), answer.header("ratelimit-remaining").to_owned()));
    }
    let expected = [(200, "2"), (200, "1"), (200, "0"), (429, "0")];
    assert_eq!(left, expected.map(|(status, left)| (status, left.to_owned())));
}

#[tokio::test]
async fn a_client_that_gives_up_does_not_hurt_the_breaker() {
    let (mesh, app) =
        order_and_product(&BREAKER.replace("consecutiveFailures: 3", "consecutiveFailures: 1")).await;
    let outbound = mesh.outbound("order-0", PRODUCT);
    app.delay(Duration::from_millis(300));
    let cancelled = tokio::time::timeout(Duration::from_millis(50), get(outbound, "/x")).await;
    assert!(cancelled.is_err());
    app.delay(Duration::ZERO);
    assert_eq!(get(outbound, "/x").await.status, 200);
}
