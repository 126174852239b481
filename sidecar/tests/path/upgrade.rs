//! `WebSockets` and their kin.

use std::net::SocketAddr;

use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use weft_api::v1;

use crate::support::{PATIENCE, app, calling, destination, endpoints, pair, pair_with};

/// Switches to a protocol that says everything back.
async fn switching() -> SocketAddr {
    app(|mut request: Request<Incoming>| async move {
        let mut answer = Response::new(Empty::new());
        if request.headers().get("upgrade").is_none_or(|protocol| protocol != "echo") {
            *answer.status_mut() = StatusCode::BAD_REQUEST;
            return answer;
        }
        let upgrade = hyper::upgrade::on(&mut request);
        TaskTracker::new().spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.unwrap());
            let mut piece = [0; 64];
            while let Ok(count @ 1..) = stream.read(&mut piece).await {
                stream.write_all(&piece[..count]).await.unwrap();
            }
        });
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        answer.headers_mut().insert("connection", "upgrade".parse().unwrap());
        answer.headers_mut().insert("upgrade", "echo".parse().unwrap());
        answer
    })
    .await
}

/// A connection that has switched.
pub(crate) async fn switch(to: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let request = "GET /ws HTTP/1.1\r\nhost: product\r\nconnection: Upgrade\r\nupgrade: echo\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("upgrade: echo\r\n"), "{head}");
    stream
}

pub(crate) async fn says_back(stream: &mut TcpStream, word: &str) {
    stream.write_all(word.as_bytes()).await.unwrap();
    let mut back = vec![0; word.len()];
    timeout(PATIENCE, stream.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(back, word.as_bytes());
}

#[tokio::test]
async fn an_upgraded_connection_passes_bytes_both_ways() {
    let pair = pair(switching().await);
    let mut stream = switch(pair.to).await;
    says_back(&mut stream, "one").await;
    says_back(&mut stream, "\n\n\r\n").await;
}

#[tokio::test]
async fn an_upgraded_connection_that_stays_silent_is_closed() {
    let pair = pair_with(switching().await, |_, destination| destination.idle_timeout_ms = 1);
    let mut stream = switch(pair.to).await;
    let ended = timeout(PATIENCE, stream.read(&mut [0])).await.expect("closed in time");
    assert_eq!(ended.unwrap(), 0);
}

#[tokio::test]
async fn a_new_configuration_leaves_an_upgraded_connection_alone() {
    let pair = pair(switching().await);
    let mut stream = switch(pair.to).await;
    says_back(&mut stream, "before").await;
    let endpoint = pair.server.address("inbound/http").unwrap();
    let changed = v1::Destination { timeout_ms: 1234, ..destination() };
    pair.client.replace(calling(&changed, &endpoints(&[endpoint]))).unwrap();
    says_back(&mut stream, "after").await;
}

#[tokio::test]
async fn an_upgraded_connection_gets_time_during_a_drain() {
    let pair = pair(switching().await);
    let mut stream = switch(pair.to).await;
    let shared = std::sync::Arc::clone(&pair.server.shared);
    let draining = TaskTracker::new();
    let drained = draining.spawn(pair.server.shutdown(PATIENCE));
    timeout(PATIENCE, shared.tasks.draining().cancelled()).await.unwrap();
    says_back(&mut stream, "still here").await;
    drop(stream);
    assert!(timeout(PATIENCE, drained).await.unwrap().unwrap());
}

#[tokio::test]
async fn a_connection_whose_upgrade_was_declined_is_closed() {
    let pair = pair(crate::support::echo().await);
    let request = "GET / HTTP/1.1\r\nhost: a\r\nupgrade: foo\r\n\r\nGET /second HTTP/1.1\nhost: a\n\n";
    let answer = crate::support::raw(pair.to, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    assert!(!answer.contains("/second"), "{answer:?}");
}
