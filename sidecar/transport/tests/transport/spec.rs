//! Each side against a peer written by hand: what must be accepted, and what must be sent.

use bytes::BytesMut;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::io::duplex;
use tokio::task::spawn_local;
use weft_transport::frame::{END, HEADER, Hello, Kind, MAX_PAYLOAD, MORE};
use weft_transport::{Body, Closed, Code, Limits, Refused, StreamError, head};

use crate::support::{
    Answer, Ask, Raw, SOON, Server, asked, client, echo, empty, full, get, pair, post, run, settle, sized,
    text,
};

#[test]
fn both_sides_say_hello_first_and_wait_for_none() {
    run(async {
        let (near, far) = duplex(1 << 16);
        let (client, _ended) = client(far, &Limits::default());
        let asked = spawn_local(async move { client.ask(get("/")).await.map(drop) });
        settle().await;
        let mut raw = Raw::new(near);
        let (header, payload) = raw.next().await.unwrap();
        assert_eq!((header.kind, Hello::decode(&payload).unwrap().version), (Kind::Hello, 1));
        assert_eq!(raw.next().await.unwrap().0.kind, Kind::Head, "before the other's HELLO");
        asked.abort();
    });
}

#[test]
fn another_first_frame_and_another_version_are_refused() {
    run(async {
        let (near, far) = duplex(1 << 16);
        let _server = Server::start(far, &Limits::default(), echo);
        let mut raw = Raw::new(near);
        raw.ask(1, END, get("/")).await;
        assert_eq!(raw.close().await, Code::Protocol);
        let (near, far) = duplex(1 << 16);
        let _server = Server::start(far, &Limits::default(), echo);
        let mut raw = Raw::new(near);
        let mut hello = BytesMut::new();
        Hello { version: 0, ..Hello::LEAST }.encode(&mut hello);
        raw.bytes(&hello).await;
        assert_eq!(raw.close().await, Code::Version);
    });
}

#[test]
fn frames_of_later_versions_are_passed_over() {
    run(async {
        let (mut raw, _server) = Raw::of_server(&Limits::default(), echo).await;
        raw.bytes(&[0, 3, 200, 0xff, 0, 0, 0, 9, 1, 2, 3]).await;
        raw.ask(1, END, get("/")).await;
        assert_eq!(raw.until(Kind::Head).await.0.stream, 1);
    });
}

#[test]
fn what_comes_in_any_pieces_is_the_same() {
    run(async {
        for piece in [1, 3, 7] {
            let (near, far) = duplex(piece);
            let _server = Server::start(far, &Limits::default(), echo);
            let (client, _ended) = client(near, &Limits::default());
            let answer = client.ask(post("/", full(vec![1; 40_000]))).await.unwrap();
            assert_eq!(text(answer.into_body()).await.unwrap().len(), 40_000);
        }
    });
}

#[test]
fn a_long_head_is_sent_in_full_frames_and_joined_again() {
    run(async {
        let (client, _server) = pair(&Limits::default(), 4096, |request: Request<Body>| {
            let size = request.headers()["x-long"].len();
            Box::pin(async move { Response::new(full(size.to_string())) }) as Answer
        });
        let mut request = get("/");
        request.headers_mut().insert("x-long", "a".repeat(50_000).parse().unwrap());
        let answer = client.ask(request).await.unwrap();
        assert_eq!(text(answer.into_body()).await.unwrap(), "50000");
        let mut request = get("/");
        request.headers_mut().insert("x-long", "a".repeat(70_000).parse().unwrap());
        let error = client.ask(request).await.unwrap_err();
        assert!(matches!(error.reason, Refused::Head(_)) && error.unsent.is_some(), "{error:?}");
        assert!(client.is_usable());
    });
}

#[test]
fn the_parts_of_a_head_are_full_and_nothing_stands_between_them() {
    for between in [Some(Kind::Data), Some(Kind::Ping), None] {
        run(async move {
            let (mut raw, _server) = Raw::of_server(&Limits::default(), echo).await;
            let length = if between.is_some() { MAX_PAYLOAD } else { 10 };
            raw.frame(Kind::Head, MORE, 1, &vec![0; length]).await;
            match between {
                Some(Kind::Data) => raw.frame(Kind::Data, 0, 1, b"x").await,
                Some(_) => raw.frame(Kind::Ping, 0, 0, &[0; 8]).await,
                None => {}
            }
            assert_eq!(raw.close().await, Code::Protocol);
        });
    }
}

#[test]
fn a_header_and_its_data_fill_one_record() {
    run(async {
        let (mut raw, _server) = Raw::of_server(&Limits::default(), sized).await;
        raw.ask(1, END, get("/100000")).await;
        let (header, _) = raw.until(Kind::Data).await;
        assert_eq!(HEADER + usize::from(header.length), 16_384);
    });
}

#[test]
fn credit_is_returned_as_it_is_taken_and_grows_for_a_large_body() {
    run(async {
        let (mut raw, client, _ended) = Raw::of_client(&Limits::default()).await;
        let asked = spawn_local(async move { client.ask(get("/")).await.map_err(|error| error.reason) });
        raw.until(Kind::Head).await;
        raw.answer(1, 0, 200, &[]).await;
        for _ in 0..4 {
            raw.frame(Kind::Data, 0, 1, &[0; 16_000]).await;
        }
        let mut body = asked.await.unwrap().unwrap().into_body();
        settle().await;
        // Nothing of it has been taken, so nothing is granted: the next frame is what asks for it.
        raw.frame(Kind::Ping, 0, 0, b"12345678").await;
        assert_eq!(raw.next().await.unwrap().0.kind, Kind::Pong);
        body.frame().await.unwrap().unwrap();
        let (header, payload) = raw.next().await.unwrap();
        assert_eq!((header.kind, header.stream), (Kind::Credit, 1));
        let more = u32::from_be_bytes(payload[..].try_into().unwrap());
        assert!(more > 400_000, "{more}");
    });
}

#[test]
fn no_credit_is_sent_for_a_body_known_to_fit() {
    run(async {
        let (mut raw, client, _ended) = Raw::of_client(&Limits::default()).await;
        let asking = client.clone();
        let asked = spawn_local(async move { asking.ask(get("/")).await.map_err(|error| error.reason) });
        raw.until(Kind::Head).await;
        raw.answer(1, 0, 200, &[("content-length", "48000")]).await;
        for at in 0..3 {
            raw.frame(Kind::Data, if at == 2 { END } else { 0 }, 1, &[0; 16_000]).await;
        }
        assert_eq!(text(asked.await.unwrap().unwrap().into_body()).await.unwrap().len(), 48_000);
        raw.frame(Kind::Ping, 0, 0, b"12345678").await;
        assert_eq!(raw.next().await.unwrap().0.kind, Kind::Pong);
        drop(client);
    });
}

#[test]
fn a_sender_stops_where_its_credit_ends() {
    run(async {
        let (mut raw, _server) = Raw::of_server(&Limits::default(), sized).await;
        raw.ask(1, END, get("/100000")).await;
        let mut got = 0;
        while got < 65_536 {
            got += raw.until(Kind::Data).await.1.len();
        }
        assert_eq!(got, 65_536);
        raw.number(Kind::Credit, 1, 1000).await;
        assert_eq!(raw.until(Kind::Data).await.1.len(), 1000);
    });
}

#[test]
fn a_body_unlike_its_length_is_malformed() {
    for (length, parts) in
        [("5", &["123"][..]), ("5", &["123456"]), ("5", &["123", "456"]), ("x", &[]), ("", &[])]
    {
        run(async move {
            let (mut raw, client, _ended) = Raw::of_client(&Limits::default()).await;
            let asked = spawn_local(async move {
                let answer = client.ask(get("/")).await.map_err(|error| error.reason)?;
                text(answer.into_body()).await.map_err(Refused::Stream)
            });
            raw.until(Kind::Head).await;
            raw.answer(1, 0, 200, &[("content-length", length)]).await;
            for (at, part) in parts.iter().enumerate() {
                let end = u8::from(at + 1 == parts.len()) * END;
                raw.frame(Kind::Data, end, 1, part.as_bytes()).await;
            }
            assert_eq!(
                asked.await.unwrap(),
                Err(Refused::Stream(StreamError::Failed(Code::Malformed))),
                "{length}"
            );
            assert_eq!(raw.reset_of(1).await, Code::Malformed);
        });
    }
}

#[test]
fn malformed_heads_end_their_stream_only() {
    let heads: [&[u8]; 9] = [
        b"",
        b"\x09",
        b"\x01\x0b\x01\x01/\x01a\x00",         // ends early
        b"\x01\x0b\x01\x01/\x01a\x00\x00\x00", // goes on
        b"\x01\x0b\x01\x80\x01/\x01a\x00\x00", // a longer length than needed
        b"\x01\x0b\x01\x02a/\x01a\x00\x00",    // no path
        b"\x01\x0b\x01\x01/\x01a\x00\x01\x00\x11transfer-encoding\x07chunked",
        b"\x01\x0b\x01\x01/\x01a\x00\x01\x00\x01X\x01y", // upper case
        b"\x01\x0b\x01\x01/\x01a\x00\x01\x15\x02-1",     // no length
    ];
    run(async move {
        let (mut raw, _server) = Raw::of_server(&Limits::default(), echo).await;
        for (stream, head) in (1..).zip(heads) {
            raw.frame(Kind::Head, END, stream, head).await;
            assert_eq!(raw.reset_of(stream).await, Code::Malformed, "{head:?}");
        }
        raw.ask(100, END, get("/")).await;
        assert_eq!(raw.until(Kind::Head).await.0.stream, 100);
    });
}

#[test]
fn informational_answers_come_before_the_one_that_counts() {
    run(async {
        let (mut raw, client, _ended) = Raw::of_client(&Limits::default()).await;
        let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
        let asking = spawn_local(async move {
            let (parts, body) = get("/").into_parts();
            let tell = |status: StatusCode, headers: HeaderMap| told.send((status, headers)).unwrap();
            client.send(asked(&parts), body, tell).await.map(|answer| answer.status().as_u16())
        });
        raw.until(Kind::Head).await;
        raw.answer(1, 0, 100, &[]).await;
        raw.answer(1, 0, 103, &[("link", "</a>")]).await;
        let (status, headers) = tells.recv().await.unwrap();
        assert_eq!(
            (status.as_u16(), &headers["link"]),
            (103, &"</a>".parse().unwrap()),
            "100 is of this hop"
        );
        assert!(!asking.is_finished(), "it is told before there is an answer");
        raw.answer(1, 0, 102, &[]).await;
        raw.answer(1, END, 204, &[]).await;
        assert_eq!(asking.await.unwrap().unwrap(), 204);
        assert_eq!(tells.recv().await.unwrap().0.as_u16(), 102);
    });
}

#[test]
fn a_client_refuses_informational_answers_without_end() {
    run(async {
        let (mut raw, client, _ended) = Raw::of_client(&Limits::default()).await;
        let asked = spawn_local(async move { client.ask(get("/")).await.map(drop) });
        raw.until(Kind::Head).await;
        for _ in 0..=MOST {
            raw.answer(1, 0, 103, &[]).await;
        }
        assert_eq!(raw.reset_of(1).await, Code::Malformed);
        assert!(asked.await.unwrap().is_err());
    });
}

/// Informational answers that a client takes at least.
const MOST: usize = 16;

#[test]
fn a_server_sends_no_more_informational_answers_than_a_client_takes_and_none_after_the_final_one() {
    run(async {
        let answer = |request: Request<Body>| {
            let informer = request.body().informer().unwrap();
            let mut links = HeaderMap::new();
            links.insert("link", "</a>".parse().unwrap());
            for _ in 0..2 * MOST {
                informer.inform(StatusCode::EARLY_HINTS, &links);
            }
            informer.inform(StatusCode::SWITCHING_PROTOCOLS, &links);
            spawn_local(async move {
                settle().await;
                informer.inform(StatusCode::EARLY_HINTS, &links);
            });
            Box::pin(async { Response::new(full("done")) }) as Answer
        };
        let (mut raw, _server) = Raw::of_server(&Limits::default(), answer).await;
        raw.ask(1, END, get("/")).await;
        for _ in 0..MOST {
            let (header, payload) = raw.until(Kind::Head).await;
            assert!(!header.ends());
            let head = head::answer(payload, 9).unwrap();
            assert_eq!((head.status.as_u16(), &head.headers["link"]), (103, &"</a>".parse().unwrap()));
        }
        let (_, payload) = raw.until(Kind::Head).await;
        assert_eq!(head::answer(payload, 9).unwrap().status.as_u16(), 200);
        raw.until(Kind::Data).await;
        settle().await;
        let mut old = get("/");
        *old.version_mut() = http::Version::HTTP_10;
        raw.ask(3, END, old).await;
        let (header, payload) = raw.until(Kind::Head).await;
        let status = head::answer(payload, 9).unwrap().status.as_u16();
        assert_eq!((header.stream, status), (3, 200), "none after the final answer, and none to HTTP/1.0");
    });
}

#[test]
fn a_switch_nobody_asked_for_is_malformed() {
    run(async {
        let (mut raw, client, _ended) = Raw::of_client(&Limits::default()).await;
        let asked = spawn_local(async move { client.ask(get("/")).await.map(drop) });
        raw.until(Kind::Head).await;
        raw.answer(1, 0, 101, &[("connection", "upgrade"), ("upgrade", "websocket")]).await;
        assert_eq!(raw.reset_of(1).await, Code::Malformed);
        assert!(asked.await.unwrap().is_err());
    });
}

#[test]
fn a_refused_stream_is_given_back_whole() {
    run(async {
        let (mut raw, client, _ended) = Raw::of_client(&Limits::default()).await;
        let asking = client.clone();
        let asked = spawn_local(async move { asking.ask(get("/")).await.map(drop) });
        raw.until(Kind::Head).await;
        raw.number(Kind::Reset, 1, Code::Refused.number()).await;
        let error = asked.await.unwrap().unwrap_err();
        assert!(error.unprocessed && error.unsent.is_some());
        assert!(client.is_usable());
    });
}

#[test]
fn streams_beyond_the_last_one_of_a_drain_are_given_back_and_the_others_go_on() {
    run(async {
        let (mut raw, client, ended) = Raw::of_client(&Limits::default()).await;
        let ask = || {
            let client = client.clone();
            spawn_local(async move { client.ask(get("/")).await.map(drop) })
        };
        let (first, second) = (ask(), ask());
        raw.until(Kind::Head).await;
        raw.until(Kind::Head).await;
        raw.number(Kind::Drain, 0, 1).await;
        let error = second.await.unwrap().unwrap_err();
        assert!(error.unprocessed && error.unsent.is_some());
        raw.answer(1, END, 200, &[]).await;
        first.await.unwrap().unwrap();
        assert_eq!(ended.await.unwrap(), Ok(()), "it ends with its last stream");
    });
}

#[test]
fn a_server_drains_in_two_steps() {
    run(async {
        let (mut raw, server) = Raw::of_server(&Limits::default(), echo).await;
        server.drain();
        assert_eq!(raw.until(Kind::Drain).await.1[..], u32::MAX.to_be_bytes());
        let (_, opaque) = raw.until(Kind::Ping).await;
        raw.ask(1, END, get("/")).await;
        assert_eq!(raw.until(Kind::Head).await.0.stream, 1, "it was on its way");
        raw.frame(Kind::Pong, 0, 0, &opaque).await;
        assert_eq!(raw.until(Kind::Drain).await.1[..], 1_u32.to_be_bytes());
        assert!(raw.next().await.is_none());
        drop(raw);
        assert_eq!(server.end().await, Ok(()));
    });
}

#[test]
fn a_peer_that_is_gone_is_noticed() {
    run(async {
        let (mut raw, client, ended) = Raw::of_client(&Limits::default()).await;
        let asked = spawn_local(async move { client.ask(get("/")).await.map(drop) });
        raw.until(Kind::Head).await;
        raw.until(Kind::Ping).await;
        assert_eq!(ended.await.unwrap(), Err(Closed::ByUs(Code::Timeout)));
        assert!(!asked.await.unwrap().unwrap_err().unprocessed);
    });
}

#[test]
fn a_peer_that_answers_pings_may_take_its_time() {
    run(async {
        let (mut raw, client, ended) = Raw::of_client(&Limits::default()).await;
        let asked = spawn_local(async move { client.ask(get("/")).await.map(drop) });
        raw.until(Kind::Head).await;
        for _ in 0..10 {
            let (_, opaque) = raw.until(Kind::Ping).await;
            raw.frame(Kind::Pong, 0, 0, &opaque).await;
        }
        assert!(!ended.is_finished() && !asked.is_finished());
        raw.answer(1, END, 200, &[]).await;
        asked.await.unwrap().unwrap();
    });
}

#[test]
fn a_connection_closed_without_streams_ends_in_good_order() {
    run(async {
        let (raw, client, ended) = Raw::of_client(&Limits::default()).await;
        drop(raw);
        assert_eq!(ended.await.unwrap(), Ok(()));
        assert!(!client.is_usable());
        let (near, far) = duplex(64);
        let server =
            Server::start(far, &Limits::default(), |_| Box::pin(async { Response::new(empty()) }) as Answer);
        drop(near);
        tokio::time::timeout(SOON, server.end()).await.unwrap().ok();
    });
}
