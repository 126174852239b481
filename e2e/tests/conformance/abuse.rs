//! Clients that ask for too much, against a gateway that is a process of its own: each is refused or cut for the right
//! reason and counted, memory stays within bounds while it lasts, and whoever behaves is served meanwhile.

use std::cell::Cell;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use weft_e2e::SOON;
use weft_e2e::apps::http::HttpApp;
use weft_e2e::apps::raw::RawApp;
use weft_e2e::client::{request, try_send};

use crate::frames::{END_HEADERS, END_STREAM, Ended, Frames, HEADERS, RST_STREAM, SETTINGS, block, frame};
use crate::process::Process;

const REJECTIONS: &str = "weft_rejections_total";
const HANDSHAKES: &str = "weft_tls_handshake_failures_total";
/// What a client may make the gateway keep, in MiB, beyond what it had before: far below what it sends or asks for.
const GROWTH: u64 = 48;
const GET: &[(&str, &str)] = &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// Lets an attack run beside a client that behaves, and watches memory.
async fn withstands<T>(process: &Process, attack: impl Future<Output = T>) -> T {
    for _ in 0..20 {
        polite(process.http()).await;
    }
    let before = process.resident();
    let (done, mut peak, mut served) = (Cell::new(false), before, 0);
    let attack = async {
        let outcome = attack.await;
        done.set(true);
        outcome
    };
    let others = async {
        while !done.get() {
            polite(process.http()).await;
            served += 1;
            peak = peak.max(process.resident());
        }
    };
    let (outcome, ()) = tokio::join!(attack, others);
    polite(process.http()).await;
    let after = process.resident();
    println!(
        "resident: {before} MiB before, {peak} during, {after} after; {served} requests served meanwhile"
    );
    assert!(peak <= before + GROWTH, "memory grew from {before} to {peak} MiB");
    assert!(after <= before + GROWTH, "memory stayed at {after} MiB of {before} before");
    outcome
}

/// A request of somebody who asks for nothing special.
async fn polite(address: SocketAddr) {
    let get = request("GET", "/polite").body(Bytes::new()).unwrap();
    let answer = timeout(SOON, try_send(address, get)).await.expect("served in time").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.reason());
}

async fn gateway(settings: &[&str]) -> (Process, HttpApp) {
    let app = HttpApp::start("product").await;
    (Process::start(app.addr, settings).await, app)
}

/// What comes until the other side closes; fails where it does not.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = timeout(SOON, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection stays open");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn heads_that_never_end_are_cut() {
    let (process, _app) = gateway(&["--client-header-timeout=1s"]).await;
    let slow = async || {
        let mut stream = TcpStream::connect(process.http()).await.unwrap();
        let mut head = b"GET / HTTP/1.1\r\nhost: a\r\nx: ".iter().chain(std::iter::repeat(&b'y'));
        let drip = async {
            while stream.write_all(&[*head.next().unwrap()]).await.is_ok() {
                sleep(Duration::from_millis(100)).await;
            }
        };
        assert!(timeout(SOON, drip).await.is_ok(), "it may drip for ever");
    };
    withstands(&process, join_all((0..200).map(|_| slow()))).await;
    process.counted(REJECTIONS, "request-timeout", 200).await;
}

#[tokio::test]
async fn bodies_that_stand_still_or_drip_are_cut() {
    let (process, app) = gateway(&["--client-body-timeout=1s", "--min-body-rate=1000"]).await;
    let slow = async |drips: bool| {
        let mut stream = TcpStream::connect(process.http()).await.unwrap();
        stream.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\nx").await.unwrap();
        let (mut read, mut write) = stream.split();
        let drip = async {
            while drips && write.write_all(b"y").await.is_ok() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        let mut answer = Vec::new();
        let (closed, ()) = tokio::join!(timeout(SOON, read.read_to_end(&mut answer)), drip);
        assert!(closed.is_ok(), "the connection stays open");
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answers = withstands(&process, join_all((0..100).map(|n| slow(n % 2 == 0)))).await;
    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 408")), "{:?}", &answers[..2]);
    assert!(app.seen().iter().all(|seen| seen.method == "GET"), "none of them came through");
    process.counted(REJECTIONS, "request-timeout", 100).await;
}

#[tokio::test]
async fn a_body_over_http_2_that_drips_is_refused_alone() {
    let (process, _app) = gateway(&["--client-body-timeout=1s", "--min-body-rate=1000"]).await;
    let mut frames = Frames::over(process.connect().await).await;
    let post = [
        &[(":method", "POST"), ("content-length", "100000")][..1],
        &GET[1..],
        &[("content-length", "100000")],
    ];
    frames.headers(1, &post.concat(), false).await;
    frames.data(1, b"x", false).await;
    let ended = timeout(SOON, frames.ended(1)).await;
    assert_eq!(ended.unwrap(), Ended::Status(408));
    frames.headers(3, GET, true).await;
    assert_eq!(timeout(SOON, frames.ended(3)).await.unwrap(), Ended::Status(200), "the connection goes on");
}

#[tokio::test]
async fn a_stream_over_http_2_that_stands_still_is_refused_alone() {
    let (process, _app) = gateway(&["--client-stream-timeout=1s"]).await;
    let mut frames = Frames::over(process.connect().await).await;
    let post = [&[(":method", "POST")][..], &GET[1..]].concat();
    let grpc = [&post[..], &[("content-type", "application/grpc")]].concat();
    frames.headers(1, &grpc, false).await;
    frames.headers(3, &post, false).await;
    for _ in 0..4 {
        // Slow, but it goes on: longer than it may stand still.
        frames.data(3, b"x", false).await;
        sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(timeout(SOON, frames.ended(3)).await.unwrap(), Ended::Status(408));
    process.logged(&["\"status\":408", "request-timeout", "http/2"]).await;
    frames.headers(5, GET, true).await;
    assert_eq!(timeout(SOON, frames.ended(5)).await.unwrap(), Ended::Status(200), "the connection goes on");
    // One of gRPC may wait; nothing has come for it while the other was given up.
    frames.data(1, b"", true).await;
    assert_eq!(timeout(SOON, frames.ended(1)).await.unwrap(), Ended::Status(200));
}

#[tokio::test]
async fn heads_that_are_no_requests_are_logged() {
    let (process, _app) = gateway(&["--max-header-bytes=8000"]).await;
    let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(9000));
    for (bytes, pieces) in [
        (large.as_str(), ["\"status\":431", "headers-too-large", "\"direction\":\"gateway\""]),
        ("GET / HTTP/1.1\nhost: a\n\n", ["\"status\":400", "bad-request", "a line ends without CR"]),
        // A DATA frame where SETTINGS must be first.
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x01\0\0\0\0\0\x01x", ["bad-request", "http/2", "detail"]),
    ] {
        let mut stream = TcpStream::connect(process.http()).await.unwrap();
        drop(stream.write_all(bytes.as_bytes()).await);
        until_closed(&mut stream).await;
        process.logged(&pieces).await;
    }
}

#[tokio::test]
async fn a_listener_has_no_more_connections_than_it_may() {
    let (process, _app) = gateway(&["--max-connections=100"]).await;
    let mut all = Vec::new();
    for _ in 0..300 {
        all.push(TcpStream::connect(process.http()).await.unwrap());
    }
    process.counted(REJECTIONS, "overflow", 150).await;
    // Whoever is in is served.
    let first = &mut all[0];
    first.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(until_closed(first).await.starts_with("HTTP/1.1 200"));
    assert_eq!(until_closed(&mut all[299]).await, "");
    drop(all);
    withstands(&process, async {}).await;
}

#[tokio::test]
async fn heads_without_measure_are_refused_while_they_come() {
    let (process, _app) =
        gateway(&["--max-request-line=1000", "--max-header-bytes=8000", "--max-headers=20"]).await;
    let send = async |bytes: Vec<u8>, status: &str| {
        let mut stream = TcpStream::connect(process.http()).await.unwrap();
        drop(stream.write_all(&bytes).await);
        let answer = until_closed(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {answer:?}");
    };
    let line = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(2000));
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(30));
    let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(9000));
    send(line.into_bytes(), "414").await;
    send(many.into_bytes(), "431").await;
    send(large.into_bytes(), "431").await;
    let endless = async || {
        let mut stream = TcpStream::connect(process.http()).await.unwrap();
        drop(stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nx: ").await);
        let piece = vec![b'y'; 64 << 10];
        for _ in 0..160 {
            if stream.write_all(&piece).await.is_err() {
                break;
            }
        }
    };
    withstands(&process, join_all((0..32).map(|_| endless()))).await;
    assert!(process.metric(REJECTIONS, "headers-too-large").await >= 30);
}

#[tokio::test]
async fn a_body_without_measure_is_refused() {
    let (process, app) = gateway(&["--max-body-bytes=100000"]).await;
    let send = async |chunked: bool| {
        let mut stream = TcpStream::connect(process.http()).await.unwrap();
        let framing = if chunked { "transfer-encoding: chunked" } else { "content-length: 10000000" };
        drop(stream.write_all(format!("POST / HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n").as_bytes()).await);
        let (mut read, mut write) = stream.split();
        let upload = async {
            let piece = [b"2710\r\n", &[b'y'; 10_000][..], b"\r\n"].concat();
            for _ in 0..1000 {
                if write.write_all(&piece).await.is_err() {
                    break;
                }
            }
        };
        let mut answer = Vec::new();
        let (read, ()) = tokio::join!(timeout(SOON, read.read_to_end(&mut answer)), upload);
        assert!(read.is_ok(), "the connection stays open");
        String::from_utf8_lossy(&answer).into_owned()
    };
    let answers = withstands(&process, join_all((0..20).map(|n| send(n % 2 == 0)))).await;
    assert!(answers.iter().all(|answer| answer.starts_with("HTTP/1.1 413")), "{:?}", &answers[..2]);
    assert!(app.seen().iter().all(|seen| seen.method == "GET"), "none of them came through");
    process.counted(REJECTIONS, "body-too-large", 20).await;
    let small = request("POST", "/").body(Bytes::from(vec![b'x'; 100_000])).unwrap();
    assert_eq!(try_send(process.http(), small).await.unwrap().status, 200);
}

/// Writes these bytes over and over until the connection is closed; how often that went.
async fn flood(process: &Process, piece: impl Fn(u32) -> Vec<u8>) -> u32 {
    let mut frames = Frames::over(process.connect().await).await;
    let flood = async {
        let mut round = 0;
        while round < 100_000 && frames.write(&piece(round)).await {
            round += 1;
        }
        // What was written before the other end closed may still be under way.
        while frames.next().await.is_some() {}
        round
    };
    timeout(SOON, flood).await.expect("the connection is closed")
}

#[tokio::test]
async fn streams_that_are_reset_at_once_end_their_connection() {
    let (process, _app) = gateway(&["--max-control-frames=200"]).await;
    let opened = withstands(
        &process,
        flood(&process, |round| {
            let stream = 2 * round + 1;
            let mut bytes = frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(GET));
            bytes.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
            bytes
        }),
    )
    .await;
    assert!(opened < 50_000, "{opened}");
    process.counted(REJECTIONS, "flood", 1).await;
}

#[tokio::test]
async fn floods_of_ping_settings_and_crumbs_end_their_connection() {
    let (process, _app) = gateway(&["--max-control-frames=200"]).await;
    let first = frame(HEADERS, END_STREAM, 1, &block(GET));
    let floods: [(&str, Vec<u8>, Vec<u8>); 5] = [
        ("PING", vec![], frame(PING, 0, 0, &[0; 8])),
        ("SETTINGS", vec![], frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])),
        ("empty DATA", frame(HEADERS, END_HEADERS, 1, &block(GET)), frame(0, 0, 1, &[])),
        ("window", frame(HEADERS, END_HEADERS, 1, &block(GET)), frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("CONTINUATION", first, frame(CONTINUATION, 0, 1, &block(&[("x", "y")]))),
    ];
    for (number, (name, first, piece)) in (1..).zip(&floods) {
        let sent = withstands(
            &process,
            flood(&process, |round| if round == 0 { first.clone() } else { piece.repeat(10) }),
        )
        .await;
        assert!(sent < 100_000, "{name}: {sent}");
        process.counted(REJECTIONS, "flood", number).await;
    }
}

#[tokio::test]
async fn no_connection_has_more_streams_than_it_may() {
    let (process, app) = gateway(&["--max-streams=50"]).await;
    app.delay(Duration::from_millis(300));
    let mut frames = Frames::over(process.connect().await).await;
    let refused = withstands(&process, async {
        for number in 0..200 {
            frames.headers(2 * number + 1, GET, true).await;
        }
        let (mut served, mut refused) = (0, 0);
        while served + refused < 200 {
            let next = timeout(SOON, frames.next()).await.expect("each stream ends");
            let Some(frame) = next else { break };
            match frame.kind {
                HEADERS => served += 1,
                // REFUSED_STREAM: it may be sent again.
                RST_STREAM if frame.payload == [0, 0, 0, 7] => refused += 1,
                _ => {}
            }
        }
        refused
    })
    .await;
    assert!((100..=150).contains(&refused), "{refused} of 200 were refused");
}

#[tokio::test]
async fn answers_that_are_not_taken_are_given_up() {
    let app = RawApp::start().await;
    let mut large = b"HTTP/1.1 200 OK\r\ncontent-length: 16000000\r\nconnection: close\r\n\r\n".to_vec();
    large.resize(large.len() + 16_000_000, b'x');
    let process = Process::start(app.addr, &["--client-body-timeout=1s"]).await;
    app.answer_with(&large);
    let mut frames = Frames::over(process.connect().await).await;
    let before = process.resident();
    for number in 0..100 {
        frames.headers(2 * number + 1, GET, true).await;
    }
    let mut reset = 0;
    while reset < 100 {
        let next = timeout(SOON, frames.next()).await.expect("each stream is given up");
        reset += u32::from(next.expect("the connection stays").kind == RST_STREAM);
        let now = process.resident();
        assert!(now <= before + GROWTH, "memory grew from {before} to {now} MiB");
    }
    process.counted(REJECTIONS, "client-stalled", 100).await;
    drop(frames);
    // Over HTTP/1.1 too: the application is left alone.
    app.take().await;
    let mut stream = TcpStream::connect(process.http()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    app.served(1).await;
    let mut answer = Vec::new();
    drop(timeout(SOON, stream.read_to_end(&mut answer)).await.expect("it is closed"));
    assert!(answer.len() < 16_000_000, "it was not given up");
}

#[tokio::test]
async fn handshakes_that_are_left_lying_keep_nobody_out() {
    let (process, _app) = gateway(&["--max-handshakes=32", "--client-header-timeout=5s"]).await;
    let hello = Arc::new(crate::site::client_hello());
    withstands(&process, async {
        let mut lying = Vec::new();
        for _ in 0..300 {
            let mut stream = process.connect_tls().await;
            // All but its last byte.
            stream.write_all(&hello[..hello.len() - 1]).await.unwrap();
            lying.push(stream);
        }
        let answer = timeout(SOON, process.get_tls()).await.expect("served in time").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        process.counted(HANDSHAKES, "too-many", 250).await;
        // The rest is cut when its time is over.
        process.counted(HANDSHAKES, "timeout", 20).await;
    })
    .await;
}
