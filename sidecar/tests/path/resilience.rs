//! What callers do when a destination fails.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;
use weft_api::v1;

use crate::support::{
    CLIENT_ID, Ca, Client, DESTINATION, Pair, app, calling, client, destination, echo, endpoints, pair_with,
    read, until,
};

/// Fails this many times with 503, then says back what it was sent; counts its requests.
async fn failing(times: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let address = app(move |request: Request<Incoming>| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        async move {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let mut answer = Response::new(Full::new(body));
            if number < times {
                *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            answer
        }
    })
    .await;
    (address, seen)
}

fn retries(attempts: u32) -> v1::Retries {
    v1::Retries {
        attempts,
        backoff_base_ms: 1,
        backoff_max_ms: 2,
        budget_percent: 100,
        budget_min_per_second: 100,
        on_connect: true,
        on_reset: true,
        on_status: vec![502, 503, 504],
        ..Default::default()
    }
}

fn reason(answer: &Response<()>) -> &str {
    answer.headers().get("x-weft-reason").map_or("", |reason| reason.to_str().unwrap())
}

#[tokio::test]
async fn a_failed_request_is_sent_again_with_its_body() {
    let (app, seen) = failing(2).await;
    let pair = pair_with(app, |_, destination| destination.retries = Some(retries(3)));
    let (answer, body) = Client::connect(pair.to).await.post("/", "hello").await;
    assert_eq!((answer.status(), body.as_str()), (StatusCode::OK, "hello"));
    assert_eq!(seen.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_body_beyond_the_bound_is_not_sent_again() {
    let (app, seen) = failing(1).await;
    let pair = pair_with(app, |_, destination| destination.retries = Some(retries(3)));
    let large = Bytes::from(vec![b'x'; 100 * 1024]);
    let (answer, _) = Client::connect(pair.to).await.post("/", large).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn without_a_policy_nothing_is_sent_twice() {
    let (app, seen) = failing(1).await;
    let pair = pair_with(app, |_, _| {});
    let (answer, _) = Client::connect(pair.to).await.get("/").await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

/// Points the pair's client at these endpoints too.
fn with_endpoints(
    pair: &Pair,
    edit: impl FnOnce(&mut v1::Destination),
    more: &[SocketAddr],
) -> Vec<v1::Resource> {
    let mut all = vec![pair.server.address("inbound/http").unwrap()];
    all.extend(more);
    let mut destination = destination();
    edit(&mut destination);
    calling(&destination, &endpoints(&all))
}

#[tokio::test]
async fn a_dead_endpoint_is_passed_over() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let pair = pair_with(echo().await, |_, _| {});
    pair.client.replace(with_endpoints(&pair, |_| {}, &[dead])).unwrap();
    let mut client = Client::connect(pair.to).await;
    for _ in 0..20 {
        assert_eq!(client.post("/", "x").await.0.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn nobody_there_is_connect_failed_and_no_endpoint_is_said_so() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let ca = Ca::new();
    for (list, expect) in [(&[dead][..], "connect-failed"), (&[], "no-endpoints")] {
        let client = client(&ca.issue(CLIENT_ID), calling(&destination(), &endpoints(list)));
        let to = client.address(&format!("outbound/{DESTINATION}")).unwrap();
        let (answer, _) = Client::connect(to).await.get("/").await;
        assert_eq!((answer.status(), reason(&answer)), (StatusCode::SERVICE_UNAVAILABLE, expect));
    }
}

fn breaker() -> v1::CircuitBreaker {
    v1::CircuitBreaker {
        consecutive_failures: 5,
        open_for_ms: 200,
        half_open_requests: 1,
        window_ms: 10_000,
        ..Default::default()
    }
}

#[tokio::test]
async fn the_breaker_opens_after_five_failures_and_closes_again() {
    let (app, seen) = failing(5).await;
    let pair = pair_with(app, |_, destination| destination.breaker = Some(breaker()));
    let mut client = Client::connect(pair.to).await;
    for _ in 0..5 {
        assert_eq!(client.get("/").await.0.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    let (answer, _) = client.get("/").await;
    assert_eq!((answer.status(), reason(&answer)), (StatusCode::SERVICE_UNAVAILABLE, "circuit-open"));
    assert!(answer.headers().contains_key("retry-after"));
    assert_eq!(seen.load(Ordering::SeqCst), 5);
    let destination = Arc::clone(&pair.client.shared.config.load().destinations[DESTINATION]);
    let breaker = destination.breaker.as_ref().unwrap();
    let open = breaker.snapshot(tokio::time::Instant::now()).remaining.unwrap_or_default();
    tokio::time::sleep(open).await;
    assert_eq!(client.get("/").await.0.status(), StatusCode::OK);
    assert_eq!(client.get("/").await.0.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_service_without_instances_opens_the_breaker_too() {
    let destination = v1::Destination { breaker: Some(breaker()), ..destination() };
    let client = client(&Ca::new().issue(CLIENT_ID), calling(&destination, &endpoints(&[])));
    let to = client.address(&format!("outbound/{DESTINATION}")).unwrap();
    let mut client = Client::connect(to).await;
    for _ in 0..5 {
        assert_eq!(reason(&client.get("/").await.0), "no-endpoints");
    }
    assert_eq!(reason(&client.get("/").await.0), "circuit-open");
}

#[tokio::test]
async fn while_the_breaker_is_open_the_last_good_answer_is_served() {
    let fail = Arc::new(AtomicUsize::new(0));
    let flag = Arc::clone(&fail);
    let app = app(move |_: Request<Incoming>| {
        let failing = flag.load(Ordering::SeqCst) > 0;
        let status = if failing { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
        let answer = Response::builder().status(status).body(Full::new(Bytes::from("catalogue")));
        std::future::ready(answer.unwrap())
    })
    .await;
    let pair = pair_with(app, |_, destination| {
        destination.breaker = Some(breaker());
        destination.fallback_stale_ms = 60_000;
    });
    let mut client = Client::connect(pair.to).await;
    assert_eq!(client.get("/products").await.1, "catalogue");
    fail.store(1, Ordering::SeqCst);
    for _ in 0..5 {
        assert_eq!(client.get("/products").await.0.status(), StatusCode::INTERNAL_SERVER_ERROR);
    }
    let (answer, body) = client.get("/products").await;
    assert_eq!((answer.status(), body.as_str()), (StatusCode::OK, "catalogue"));
    assert_eq!(answer.headers()["x-weft-stale"], "true");
    assert!(!answer.headers()["x-request-id"].is_empty());
    assert_eq!(reason(&client.get("/other").await.0), "circuit-open");
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_given_up() {
    let silent = app(|_: Request<Incoming>| std::future::pending::<Response<Full<Bytes>>>()).await;
    let pair = pair_with(silent, |_, destination| destination.timeout_ms = 50);
    let (answer, _) = Client::connect(pair.to).await.get("/").await;
    assert_eq!((answer.status(), reason(&answer)), (StatusCode::GATEWAY_TIMEOUT, "timeout"));
}

#[tokio::test]
async fn faults_are_injected() {
    let pair = pair_with(echo().await, |_, destination| {
        let kind = Some(v1::fault::Kind::AbortStatus(418));
        destination.faults = vec![v1::Fault { percent: 100.0, kind, ..Default::default() }];
    });
    let (answer, _) = Client::connect(pair.to).await.get("/").await;
    assert_eq!((answer.status().as_u16(), reason(&answer)), (418, "fault-injected"));
}

#[tokio::test]
async fn more_requests_than_allowed_overflow() {
    let silent = app(|_: Request<Incoming>| std::future::pending::<Response<Full<Bytes>>>()).await;
    let pair = pair_with(silent, |_, destination| {
        destination.limits = Some(v1::Limits { requests: 1, ..Default::default() });
    });
    let tasks = TaskTracker::new();
    let to = pair.to;
    tasks.spawn(async move { Client::connect(to).await.get("/").await });
    until(|| pair.client.shared.active_requests.load(Ordering::Relaxed) == 1).await;
    let (answer, _) = Client::connect(pair.to).await.get("/").await;
    assert_eq!((answer.status(), reason(&answer)), (StatusCode::SERVICE_UNAVAILABLE, "overflow"));
}

/// What a server does with a connection that it has answered one request on.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// Closes it at once, without having said so.
    Closes,
    /// Takes the next request and goes away without a word: whether it has processed it nobody knows.
    TakesOneMore,
}

/// A server whose connections are good for one request. Tells what it was asked, and how many connections have ended.
async fn closing(then: Then) -> (SocketAddr, Arc<Mutex<Vec<String>>>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let (seen, over) = (Arc::clone(&asked), Arc::clone(&ended));
    TaskTracker::new().spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (seen, over) = (Arc::clone(&seen), Arc::clone(&over));
            TaskTracker::new().spawn(async move {
                answer_one(&mut stream, &seen, then).await;
                drop(stream);
                over.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    (address, asked, ended)
}

async fn answer_one(stream: &mut TcpStream, seen: &Mutex<Vec<String>>, then: Then) {
    let first = read_request(stream).await;
    seen.lock().unwrap().push(first);
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    if then == Then::TakesOneMore {
        let next = read_request(stream).await;
        seen.lock().unwrap().extend((!next.is_empty()).then_some(next));
    }
}

/// Method and body of a request; nothing where none comes.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return String::new(),
        }
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.unwrap();
    format!("{} {}", head.split(' ').next().unwrap(), String::from_utf8(body).unwrap())
}

async fn put(client: &mut Client, body: &'static str) -> Response<()> {
    let request = Request::put("/").header("host", "product").body(Full::new(Bytes::from(body))).unwrap();
    read(client.send(request).await).await.0
}

#[tokio::test]
async fn a_request_the_application_may_have_taken_is_repeated_only_if_it_is_idempotent() {
    let (app, asked, _) = closing(Then::TakesOneMore).await;
    let pair = pair_with(app, |_, _| {});
    let mut client = Client::connect(pair.to).await;
    assert_eq!(client.get("/").await.0.status(), StatusCode::OK);
    // The pooled connection takes it, says nothing, and ends: it goes again on a new one, with its body.
    assert_eq!(put(&mut client, "twice").await.status(), StatusCode::OK);
    assert_eq!(asked.lock().unwrap()[1..], ["PUT twice", "PUT twice"]);
    let (answer, _) = client.post("/", "once").await;
    assert_eq!((answer.status(), reason(&answer)), (StatusCode::BAD_GATEWAY, "upstream-reset"));
    assert_eq!(asked.lock().unwrap()[3..], ["POST once"]);
    assert_eq!(client.post("/", "next").await.0.status(), StatusCode::OK, "on a connection of its own");
}

#[tokio::test]
async fn a_post_that_meets_a_connection_closed_before_goes_on_another_one() {
    let (app, asked, ended) = closing(Then::Closes).await;
    let pair = pair_with(app, |_, _| {});
    let mut client = Client::connect(pair.to).await;
    for count in 1..=8 {
        let (answer, _) = client.post("/", "once").await;
        assert_eq!(answer.status(), StatusCode::OK, "{count}");
        until(|| ended.load(Ordering::SeqCst) == count).await;
    }
    assert_eq!(*asked.lock().unwrap(), ["POST once"; 8]);
}

#[tokio::test]
async fn an_endpoint_that_keeps_failing_is_left_out() {
    let (bad, seen) = failing(usize::MAX).await;
    let (good, _) = failing(0).await;
    let mut destination = v1::Destination { mtls: None, ..destination() };
    destination.outlier = Some(v1::Outlier {
        consecutive_failures: 3,
        eject_ms: 60_000,
        max_ejected_percent: 50,
        ..Default::default()
    });
    destination.load_balancing =
        Some(v1::LoadBalancing { policy: v1::LbPolicy::RoundRobin.into(), ..Default::default() });
    let client = client(&Ca::new().issue(CLIENT_ID), calling(&destination, &endpoints(&[bad, good])));
    let mut connection = Client::connect(client.address(&format!("outbound/{DESTINATION}")).unwrap()).await;
    for _ in 0..20 {
        connection.get("/").await;
    }
    assert_eq!(seen.load(Ordering::SeqCst), 3);
}
