//! HTTP/1.1 through two proxies over mutual TLS.

use bytes::Bytes;
use http::StatusCode;

use crate::support::{Client, echo, pair, raw};

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
    }
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
