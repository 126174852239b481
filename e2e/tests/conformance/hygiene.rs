//! What a proxy must do with messages beyond passing them (RFC 9110 and 9112), seen from both ends.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use weft_e2e::SOON;
use weft_e2e::apps::raw::RawApp;
use weft_e2e::apps::tcp::TcpApp;
use weft_e2e::apps::websocket::WebSocketApp;

use crate::frames::{Ended, Frames, HEADERS, SETTINGS};
use crate::site::{Duplex, Entry, Site};

const SIDES: [Entry; 3] = [Entry::Inbound, Entry::Outbound, Entry::Gateway];

/// Writes these bytes and reads until the other side closes.
pub(crate) async fn talk(stream: &mut dyn Duplex, bytes: &[u8]) -> String {
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
    let mut answer = Vec::new();
    drop(timeout(SOON, stream.read_to_end(&mut answer)).await.expect("the connection is closed"));
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads until this has come.
pub(crate) async fn until(stream: &mut dyn Duplex, piece: &str) -> String {
    let mut all = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    while !String::from_utf8_lossy(&all).contains(piece) {
        let read = timeout(SOON, stream.read(&mut buffer)).await;
        let read = read
            .unwrap_or_else(|_| panic!("{piece:?} does not come after {:?}", String::from_utf8_lossy(&all)));
        let read = read.unwrap();
        assert!(read > 0, "{piece:?} has not come: {:?}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// What each side answers and forwards for this request, whose answer ends its connection.
async fn exchange(request: &str, answer: Option<&str>, check: impl Fn(Entry, &str, &str)) {
    let (site, app) = Site::recording().await;
    if let Some(answer) = answer {
        app.answer_with(answer.as_bytes());
    }
    for side in SIDES {
        let mut stream = site.connect(side, false).await;
        let answered = talk(&mut *stream, request.as_bytes()).await;
        check(side, &answered, &app.take().await.concat());
    }
}

#[tokio::test]
async fn a_client_that_waits_for_100_gets_it_and_the_body_passes() {
    let (site, app) = Site::recording().await;
    for side in SIDES {
        let mut stream = site.connect(side, false).await;
        let head = b"POST /x HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\nconnection: close\r\n\r\n";
        stream.write_all(head).await.unwrap();
        let first = until(&mut *stream, "\r\n\r\n").await;
        assert!(first.starts_with("HTTP/1.1 100 "), "{side:?}: {first}");
        let rest = talk(&mut *stream, b"hello").await;
        assert!(rest.contains("200 OK") && rest.ends_with("ok"), "{side:?}: {rest}");
        assert!(app.take().await.concat().ends_with("hello"), "{side:?}");
    }
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let request = "POST /x HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\
                   connection: close\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-end\r\nconnection: close\r\n\r\n\
                  2\r\nok\r\n0\r\nx-end: 2\r\n\r\n";
    exchange(request, Some(answer), |side, answered, forwarded| {
        assert!(forwarded.ends_with("\r\n0\r\nx-sum: 1\r\n\r\n"), "{side:?}: {forwarded}");
        assert!(answered.ends_with("\r\n0\r\nx-end: 2\r\n\r\n"), "{side:?}: {answered}");
    })
    .await;
}

/// What no trailer may say.
const FORBIDDEN: [&str; 8] = [
    "content-length",
    "transfer-encoding",
    "host",
    "authorization",
    "content-type",
    "cache-control",
    "if-match",
    "x-weft-peer",
];

#[tokio::test]
async fn fields_that_must_not_trail_are_dropped_both_ways() {
    let lines = FORBIDDEN.map(|name| format!("{name}: 7777\r\n")).concat();
    let request = format!(
        "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
         5\r\nhello\r\n0\r\n{lines}x-sum: 1\r\n\r\n"
    );
    let answer = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
         2\r\nok\r\n0\r\n{lines}x-end: 2\r\n\r\n"
    );
    exchange(&request, Some(&answer), |side, answered, forwarded| {
        assert!(forwarded.ends_with("\r\n0\r\nx-sum: 1\r\n\r\n"), "{side:?}: {forwarded}");
        assert!(answered.ends_with("\r\n0\r\nx-end: 2\r\n\r\n"), "{side:?}: {answered}");
    })
    .await;
    // HTTP/2 has no framing to name, and its codec leaves the rest to whoever reads it.
    let (site, app) = Site::recording().await;
    let head = [(":method", "POST"), (":scheme", "http"), (":path", "/x"), (":authority", "a")];
    let mut trailers = vec![("x-sum", "1")];
    trailers
        .extend(FORBIDDEN.iter().filter(|name| **name != "transfer-encoding").map(|name| (*name, "7777")));
    for side in SIDES {
        let mut frames = Frames::over(site.connect(side, true).await).await;
        frames.headers(1, &head, false).await;
        frames.data(1, b"hello", false).await;
        frames.headers(1, &trailers, true).await;
        assert_eq!(timeout(SOON, frames.ended(1)).await.unwrap(), Ended::Status(200), "{side:?}");
        drop(frames);
        let forwarded = app.take().await.concat();
        assert!(forwarded.ends_with("\r\n0\r\nx-sum: 1\r\n\r\n"), "{side:?}: {forwarded}");
    }
}

#[tokio::test]
async fn a_request_that_may_go_no_further_is_answered_by_the_proxy() {
    let (site, app) = Site::recording().await;
    for side in SIDES {
        for (method, status) in [("OPTIONS", 200), ("TRACE", 501)] {
            let ask = async |field: &str| {
                let mut stream = site.connect(side, false).await;
                let request = format!("{method} /x HTTP/1.1\r\nhost: a\r\n{field}connection: close\r\n\r\n");
                let answer = talk(&mut *stream, request.as_bytes()).await;
                (answer, app.take().await.concat())
            };
            let (answer, forwarded) = ask("max-forwards: 0\r\n").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{side:?}, {method}: {answer}");
            assert_eq!(forwarded, "", "{side:?}, {method}");
            for (field, expect) in [
                ("max-forwards: 1\r\n", "max-forwards: 0\r\n"),
                ("max-forwards: 99999999999999999999999\r\n", "max-forwards: 18446744073709551614\r\n"),
                ("max-forwards: many\r\n", "max-forwards: many\r\n"),
                ("", ""),
            ] {
                let (_, forwarded) = ask(field).await;
                assert!(forwarded.starts_with(method), "{side:?}, {method}: {forwarded}");
                assert!(forwarded.contains(expect), "{side:?}, {method}: {expect:?} in {forwarded}");
            }
        }
        let get = "GET /x HTTP/1.1\r\nhost: a\r\nmax-forwards: 0\r\nconnection: close\r\n\r\n";
        talk(&mut *site.connect(side, false).await, get.as_bytes()).await;
        assert!(app.take().await.concat().contains("max-forwards: 0\r\n"), "{side:?}: it is not for GET");
    }
}

#[tokio::test]
async fn an_answer_to_head_keeps_its_length_and_has_no_body() {
    let request = "HEAD /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    exchange(request, None, |side, answered, _| {
        assert!(
            answered.contains("content-length: 2\r\n") && answered.ends_with("\r\n\r\n"),
            "{side:?}: {answered}"
        );
    })
    .await;
}

#[tokio::test]
async fn an_answer_before_the_final_one_passes() {
    let request = "GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = "HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\
                  connection: close\r\n\r\nok";
    exchange(request, Some(answer), |side, answered, _| {
        let (before, last) = answered.split_at(answered.find("HTTP/1.1 200 OK").expect("the final answer"));
        assert!(last.ends_with("\r\n\r\nok"), "{side:?}: {answered}");
        let hint = "HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n";
        assert_eq!(before, hint, "{side:?}");
    })
    .await;
}

#[tokio::test]
async fn what_concerns_one_hop_stays_there_and_no_hop_names_itself() {
    let request = "GET /x HTTP/1.1\r\nhost: a\r\nvia: 1.1 before\r\nforwarded: for=6.6.6.6\r\nproxy-authorization: x\r\n\
                   te: gzip\r\nconnection: close\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close, x-private\r\nkeep-alive: timeout=5\r\n\
                  proxy-authenticate: Basic\r\nx-private: 1\r\n\r\n";
    exchange(request, Some(answer), |side, answered, forwarded| {
        assert!(forwarded.contains("via: 1.1 before\r\n"), "{side:?}: {forwarded}");
        for hidden in ["proxy-authorization", "te: gzip", "connection: close"] {
            assert!(!forwarded.contains(hidden), "{side:?}: {hidden} in {forwarded}");
        }
        // Who comes from outside cannot say who it is.
        assert_eq!(
            forwarded.contains("forwarded: for=6.6.6.6"),
            side != Entry::Gateway,
            "{side:?}: {forwarded}"
        );
        for hidden in ["x-private", "keep-alive", "proxy-authenticate", "via:"] {
            assert!(!answered.contains(hidden), "{side:?}: {hidden} in {answered}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_of_http_1_0_is_served_and_its_connection_closed() {
    exchange("GET /x HTTP/1.0\r\n\r\n", None, |side, answered, forwarded| {
        assert!(answered.contains(" 200 OK\r\n") && answered.ends_with("ok"), "{side:?}: {answered}");
        assert!(forwarded.starts_with("GET /x HTTP/1.1\r\n"), "{side:?}: {forwarded}");
    })
    .await;
}

#[tokio::test]
async fn options_of_the_server_itself_pass_a_sidecar() {
    let (site, app) = Site::recording().await;
    for side in [Entry::Inbound, Entry::Outbound] {
        let mut stream = site.connect(side, false).await;
        talk(&mut *stream, b"OPTIONS * HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        assert!(app.take().await.concat().starts_with("OPTIONS * HTTP/1.1\r\n"), "{side:?}");
    }
}

#[tokio::test]
async fn large_bodies_pass_whole_both_ways() {
    let size = 8 << 20;
    let body: Vec<u8> = (0..size).map(|n: u32| b'a' + u8::try_from(n % 23).unwrap()).collect();
    let (site, app) = Site::recording().await;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\nconnection: close\r\n\r\n");
    app.answer_with(&[head.as_bytes(), &body].concat());
    for side in SIDES {
        let stream = site.connect(side, false).await;
        let (mut read, mut write) = tokio::io::split(stream);
        let head =
            format!("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\nconnection: close\r\n\r\n");
        let upload = async {
            write.write_all(head.as_bytes()).await.unwrap();
            write.write_all(&body).await.unwrap();
            write.flush().await.unwrap();
        };
        let mut answer = Vec::new();
        let ((), read) = tokio::join!(upload, timeout(SOON, read.read_to_end(&mut answer)));
        read.expect("an answer in time").unwrap();
        assert!(answer.ends_with(&body), "{side:?}: {} bytes came back", answer.len());
        let forwarded = app.take().await.concat();
        assert!(forwarded.as_bytes().ends_with(&body), "{side:?}: {} bytes went", forwarded.len());
    }
}

#[tokio::test]
async fn an_answer_that_comes_before_the_body_has_been_sent_passes() {
    let app = RawApp::start().await;
    app.answer_early(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 4\r\nconnection: close\r\n\r\nmuch");
    let site = Site::new(app.addr);
    for side in SIDES {
        let mut stream = site.connect(side, false).await;
        stream
            .write_all(b"POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\nbegun")
            .await
            .unwrap();
        let answer = until(&mut *stream, "much").await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{side:?}: {answer}");
    }
}

#[tokio::test]
async fn a_tunnel_passes_a_sidecar_both_ways() {
    let app = TcpApp::echo().await;
    let raw = RawApp::start().await;
    raw.answer_with(b"HTTP/1.1 200 OK\r\n\r\nwelcome");
    let site = Site::new(raw.addr);
    drop(app);
    for side in [Entry::Inbound, Entry::Outbound] {
        let mut stream = site.connect(side, false).await;
        stream.write_all(b"CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n").await.unwrap();
        let answer = until(&mut *stream, "welcome").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{side:?}: {answer}");
    }
}

/// A masked text frame and its unmasked echo (RFC 6455, section 5.2).
const SAID: &[u8] = &[0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
const ECHOED: &[u8] = &[0x81, 0x02, b'h', b'i'];

#[tokio::test]
async fn a_websocket_over_http_2_reaches_an_application_of_http_1() {
    let app = WebSocketApp::start().await;
    let site = Site::new(app.addr);
    for side in SIDES {
        let mut frames = Frames::over(site.connect(side, true).await).await;
        let settings = timeout(SOON, frames.next()).await.unwrap().unwrap();
        let allows = settings.payload.chunks(6).any(|setting| setting == [0, 8, 0, 0, 0, 1]);
        assert!(settings.kind == SETTINGS && allows, "SETTINGS_ENABLE_CONNECT_PROTOCOL: {settings:?}");
        let fields = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", "/chat"),
            (":authority", "a"),
            ("sec-websocket-version", "13"),
        ];
        frames.headers(1, &fields, false).await;
        assert_eq!(timeout(SOON, frames.ended(1)).await.unwrap(), Ended::Status(200), "{side:?}");
        frames.data(1, SAID, false).await;
        let mut echoed = Vec::new();
        while echoed.len() < ECHOED.len() {
            let frame = timeout(SOON, frames.next()).await.expect("an echo in time").unwrap();
            assert_ne!(frame.kind, HEADERS, "{side:?}");
            if frame.kind == 0 {
                echoed.extend(frame.payload);
            }
        }
        assert_eq!(echoed, ECHOED, "{side:?}");
    }
}

/// Answers that two parties could read differently.
const AMBIGUOUS: &[(&str, &str)] = &[
    ("two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok!"),
    ("length that is no number", "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok"),
    ("bare LF", "HTTP/1.1 200 OK\ncontent-length: 2\n\nok"),
    ("folded line", "HTTP/1.1 200 OK\r\nx: y\r\n z\r\ncontent-length: 2\r\n\r\nok"),
    ("space before the colon", "HTTP/1.1 200 OK\r\ncontent-length : 2\r\n\r\nok"),
    (
        "length with chunked",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ),
    ("NUL in a value", "HTTP/1.1 200 OK\r\nx: y\0\r\ncontent-length: 2\r\n\r\nok"),
    ("another coding", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ("no HTTP", "ready\r\n"),
];

#[tokio::test]
async fn an_ambiguous_answer_is_answered_with_502() {
    for (name, answer) in AMBIGUOUS {
        exchange(
            "GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
            Some(answer),
            |side, answered, _| {
                assert!(answered.starts_with("HTTP/1.1 502 "), "{name}, {side:?}: {answered}");
            },
        )
        .await;
    }
}

#[tokio::test]
async fn a_chunked_answer_that_breaks_off_is_not_completed() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n";
    exchange("GET /x HTTP/1.1\r\nhost: a\r\n\r\n", Some(answer), |side, answered, _| {
        assert!(!answered.contains("\r\n0\r\n"), "{side:?}: {answered}");
    })
    .await;
    let short = "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nok";
    let waited = timeout(
        SOON + Duration::from_secs(5),
        exchange("GET /x HTTP/1.1\r\nhost: a\r\n\r\n", Some(short), |_, _, _| ()),
    );
    waited.await.expect("the client's connection is closed, so that it knows");
}
