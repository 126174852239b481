//! What is malformed is refused on every listener and never reaches the application (RFC 9112).

use std::net::SocketAddr;

use weft_e2e::client::{get, raw};

use crate::{PRODUCT, order_and_product};

/// Each refused with its status, and the connection closed.
async fn check(addr: SocketAddr) {
    let cases: &[(&str, &str, &str)] = &[
        (
            "both lengths",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        (
            "differing lengths",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
            "400",
        ),
        ("length not a number", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nhello", "400"),
        ("folded header", "GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\r\n 2\r\n\r\n", "400"),
        ("space before colon", "GET / HTTP/1.1\r\nhost: a\r\nx-a : 1\r\n\r\n", "400"),
        ("no host", "GET / HTTP/1.1\r\n\r\n", "400"),
        ("two hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "400"),
        (
            "chunked not last",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
            "400",
        ),
        (
            "unknown coding",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        ("control character", "GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\u{0}2\r\n\r\n", "400"),
        ("no method", " / HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
        ("rubbish", "\u{16}\u{3}\u{1}rubbish\r\n\r\n", "400"),
    ];
    for (name, bytes, status) in cases {
        let answer = raw(addr, bytes.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{name}: {answer}");
    }
    let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx-large: {}\r\n\r\n", "a".repeat(100 * 1024));
    let answer = raw(addr, large.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn malformed_requests_are_refused_by_the_outbound_side() {
    let (mesh, app) = order_and_product("").await;
    let outbound = mesh.outbound("order-0", PRODUCT);
    check(outbound).await;
    assert_eq!(app.count(), 0);
    assert_eq!(get(outbound, "/x").await.status, 200);
}

#[tokio::test]
async fn malformed_requests_are_refused_by_the_inbound_side() {
    let (mesh, app) = order_and_product("  mtls: {mode: Disabled}").await;
    check(mesh.inbound("product-0", "http")).await;
    assert_eq!(app.count(), 0);
}

#[tokio::test]
async fn a_bad_chunk_closes_the_connection_and_the_next_request_is_not_smuggled() {
    let (mesh, app) = order_and_product("").await;
    for chunk in [
        "zz\r\nhello\r\n0\r\n\r\n",
        "5;\nhello\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\nhello",
        "-5\r\nhello\r\n",
    ] {
        let bytes = format!(
            "POST /chunked HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunk}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
        );
        let answer = raw(mesh.outbound("order-0", PRODUCT), bytes.as_bytes()).await;
        assert!(!answer.contains(" 200 "), "{chunk:?}: {answer}");
    }
    assert!(app.seen().iter().all(|seen| seen.path != "/smuggled"), "{:?}", app.seen());
}
