//! HTTP/1.1 through two proxies over mutual TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;
use weft_api::v1;
use weft_sidecar::app::{Proxy, Source};
use weft_sidecar::settings::Settings;

use crate::support::{
    CLIENT_ID, Ca, Client, DESTINATION, PATIENCE, app, calling, destination, echo, endpoints, pair, raw,
};

#[tokio::test]
async fn a_request_passes_both_proxies_with_body_and_headers() {
    let pair = pair(echo().await);
    let mut client = Client::connect(pair.to).await;
    let (answer, body) = client.post("/orders?x=1", "hello").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(body.starts_with("POST /orders?x=1 HTTP/1.1\n"), "{body}");
    assert!(body.ends_with("\n\nhello"), "{body}");
    for header in ["host: product", "x-request-id: ", "traceparent: 00-"] {
        assert!(body.contains(header), "{header} in {body}");
    }
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    let pair = pair(echo().await);
    let mut client = Client::connect(pair.to).await;
    for n in 0..50 {
        let (answer, body) = client.get(&format!("/{n}")).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(body.starts_with(&format!("GET /{n} HTTP/1.1\n")), "{body}");
    }
}

#[tokio::test]
async fn a_large_body_passes_whole() {
    let pair = pair(echo().await);
    let mut client = Client::connect(pair.to).await;
    let large = Bytes::from(vec![b'x'; 3 << 20]);
    let (_, body) = client.post("/", large.clone()).await;
    let (_, echoed) = body.split_once("\n\n").unwrap();
    assert_eq!(echoed.len(), large.len());
}

#[tokio::test]
async fn malformed_requests_are_refused_with_400_and_the_connection_is_closed() {
    let pair = pair(echo().await);
    let cases = [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\n folded: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: b\r\n c\r\n\r\n",
        "GET / HTTP/1.1\nhost: a\n\n",
        "GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
        "GET /\u{0} HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: a\u{0}b\r\n\r\n",
        "GET /%00 HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
    ];
    for case in cases {
        let answer = raw(pair.to, case.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{case:?} was answered with {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{case:?} was answered with {answer:?}");
    }
}

#[tokio::test]
async fn nothing_after_a_smuggled_request_is_served() {
    let pair = pair(echo().await);
    let smuggled = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n\
                    GET /admin HTTP/1.1\r\nhost: a\r\n\r\n";
    let answer = raw(pair.to, smuggled.as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer:?}");
    assert!(answer.contains("x-weft-reason: bad-request"), "{answer:?}");
    assert!(!answer.contains("/admin"), "{answer:?}");
}
#[tokio::test]
async fn oversized_heads_are_refused_with_431() {
    let pair = pair(echo().await);
    let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(70_000));
    let many = "x: 1\r\n".repeat(120);
    for case in [long, format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n")] {
        let length = case.len();
        let answer = raw(pair.to, case.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{length} bytes were answered with {answer:?}");
        assert!(answer.contains("x-weft-reason: headers-too-large\r\n"), "{answer:?}");
    }
    let line = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(20_000));
    let answer = raw(pair.to, line.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 414 "), "{answer:?}");
    assert!(answer.contains("x-weft-reason: headers-too-large\r\n"), "{answer:?}");
}

/// A proxy that calls the echo, with little patience for its clients.
async fn impatient() -> (weft_sidecar::app::Handle, SocketAddr) {
    let destination = v1::Destination { mtls: None, ..destination() };
    let mut endpoints = endpoints(&[echo().await]);
    endpoints.endpoints.iter_mut().for_each(|endpoint| endpoint.meshed = false);
    let short = Duration::from_millis(600);
    let settings =
        Settings { client_header_timeout: short, client_body_timeout: short, ..Settings::in_process() };
    let source = Source::Static(calling(&destination, &endpoints), Ca::new().issue(CLIENT_ID));
    let proxy = Proxy::start(settings, source).unwrap();
    let to = proxy.address(&format!("outbound/{DESTINATION}")).unwrap();
    (proxy, to)
}

#[tokio::test]
async fn a_client_that_does_not_go_on_is_refused_with_408() {
    let (proxy, to) = impatient().await;
    for begun in [
        "GET / HTTP/1.1\r\nhost: a\r\nx: ",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nab",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
    ] {
        let answer = raw(to, begun.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{begun:?} was answered with {answer:?}");
        assert!(answer.contains("x-weft-reason: request-timeout\r\n"), "{answer:?}");
    }
    drop(proxy);
}

#[tokio::test]
async fn a_refused_head_is_counted() {
    let pair = pair(echo().await);
    raw(pair.to, b"GET / HTTP/1.1\nhost: a\n\n").await;
    let metrics = pair.client.shared.telemetry.metrics.encode(0);
    let counted = metrics.lines().find(|line| line.contains("bad-request") && line.contains("outbound"));
    assert!(counted.is_some_and(|line| line.ends_with(" 1")), "{counted:?}");
}

#[tokio::test]
async fn an_answer_that_comes_before_the_whole_request_is_passed_on() {
    let early = app(|_: Request<Incoming>| async {
        let mut answer = Response::new(Full::new(Bytes::from("no")));
        *answer.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
        answer
    })
    .await;
    let pair = pair(early);
    let mut stream = TcpStream::connect(pair.to).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nbegun").await.unwrap();
    let mut answer = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_request_along() {
    let (arrived, gone) = (Arc::new(Notify::new()), Arc::new(std::sync::Mutex::new(None)));
    let (there, slot) = (Arc::clone(&arrived), Arc::clone(&gone));
    let slow = app(move |_: Request<Incoming>| {
        let (tell, told) = oneshot::channel::<()>();
        *slot.lock().unwrap() = Some(told);
        there.notify_one();
        async move {
            let _tell = tell;
            std::future::pending::<Response<Full<Bytes>>>().await
        }
    })
    .await;
    let pair = pair(slow);
    let mut stream = TcpStream::connect(pair.to).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    timeout(PATIENCE, arrived.notified()).await.unwrap();
    drop(stream);
    let told = gone.lock().unwrap().take().unwrap();
    assert!(timeout(PATIENCE, told).await.expect("the application learns of it").is_err());
}

#[tokio::test]
async fn an_answer_to_head_keeps_its_length() {
    let pair = pair(echo().await);
    let answer = raw(pair.to, b"HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    assert!(answer.contains("content-length: ") && answer.ends_with("\r\n\r\n"), "{answer:?}");
}

#[tokio::test]
async fn a_client_of_http_1_0_is_served() {
    let pair = pair(echo().await);
    let answer = raw(pair.to, b"GET /old HTTP/1.0\r\n\r\n").await;
    assert!(answer.contains("GET /old HTTP/1.1"), "{answer:?}");
}

#[tokio::test]
async fn expect_100_continue_is_answered_before_the_body() {
    let pair = pair(echo().await);
    let request = "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
    let answer = raw(pair.to, request.as_bytes()).await;
    assert!(answer.contains("HTTP/1.1 200 ") && answer.ends_with("\n\nok"), "{answer:?}");
}
