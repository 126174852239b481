//! A peer that does what it must not (README, "Limits against an abusive peer"): how it ends, and what it can make the other
//! side keep.

use http::{Request, Response};
use tokio::io::duplex;
use tokio::task::spawn_local;
use weft_transport::frame::{END, Kind, MAX_CREDIT, MAX_PAYLOAD, MORE};
use weft_transport::{Body, Closed, Code, Limits, Refused, StreamError};

use crate::support::{Answer, Ask, Raw, Server, client, echo, empty, full, get, post, run, settle, sized};

/// Neither answers nor reads.
fn ignore(request: Request<Body>) -> Answer {
    Box::pin(async move {
        std::future::pending::<()>().await;
        drop(request);
        Response::new(empty())
    })
}

#[test]
fn streams_over_the_limit_are_refused_and_the_others_go_on() {
    run(async {
        let limits = Limits { max_streams: 32, ..Limits::default() };
        let (mut raw, _server) = Raw::of_server(&limits, ignore).await;
        for stream in 1..=40 {
            raw.ask(stream, 0, get("/")).await;
        }
        for stream in 33..=40 {
            assert_eq!(raw.reset_of(stream).await, Code::Refused);
        }
    });
}

#[test]
fn a_rapid_reset_ends_the_connection() {
    run(async {
        let (mut raw, server) = Raw::of_server(&Limits::default(), ignore).await;
        for stream in 1..=2001 {
            raw.ask(stream, END, get("/")).await;
            raw.number(Kind::Reset, stream, Code::Cancelled.number()).await;
        }
        assert_eq!(raw.close().await, Code::Flood);
        assert_eq!(server.end().await, Err(Closed::ByUs(Code::Flood)));
    });
}

#[test]
fn floods_of_pings_and_hellos_end_the_connection() {
    run(async {
        let (mut raw, _server) = Raw::of_server(&Limits::default(), echo).await;
        for _ in 0..33 {
            raw.frame(Kind::Ping, 0, 0, &[0; 8]).await;
        }
        assert_eq!(raw.close().await, Code::Flood);
        let (mut raw, _server) = Raw::of_server(&Limits::default(), echo).await;
        raw.bytes(&[0, 18, 0, 0, 0, 0, 0, 0]).await;
        raw.bytes(b"weft\x00\x01\x00\x00\x01\x00\x00\x01\x00\x00\x00\x01\x00\x00").await;
        assert_eq!(raw.close().await, Code::Protocol);
    });
}

#[test]
fn a_flood_of_credit_ends_the_connection_and_so_does_too_much_or_none() {
    run(async {
        let (mut raw, _server) = Raw::of_server(&Limits::default(), ignore).await;
        raw.ask(1, END, get("/")).await;
        for _ in 0..1027 {
            raw.number(Kind::Credit, 1, 1).await;
        }
        assert_eq!(raw.close().await, Code::Flood);
        for (more, code) in [(0, Code::Protocol), (MAX_CREDIT, Code::Flow), (u32::MAX, Code::Flow)] {
            let (mut raw, _server) = Raw::of_server(&Limits::default(), ignore).await;
            raw.ask(1, END, get("/")).await;
            raw.number(Kind::Credit, 1, more).await;
            assert_eq!(raw.close().await, code, "{more}");
        }
    });
}

#[test]
fn data_beyond_the_credit_ends_the_connection() {
    run(async {
        let (mut raw, _server) = Raw::of_server(&Limits::default(), ignore).await;
        raw.ask(1, 0, get("/")).await;
        for _ in 0..5 {
            raw.frame(Kind::Data, 0, 1, &[0; 16_000]).await;
        }
        assert_eq!(raw.close().await, Code::Flow);
    });
}

#[test]
fn empty_data_that_ends_nothing_ends_the_connection() {
    run(async {
        let (mut raw, _server) = Raw::of_server(&Limits::default(), ignore).await;
        raw.ask(1, 0, get("/")).await;
        raw.frame(Kind::Data, 0, 1, b"").await;
        assert_eq!(raw.close().await, Code::Protocol);
    });
}

#[test]
fn a_head_without_end_and_one_with_too_many_fields_are_refused() {
    run(async {
        let (mut raw, _server) = Raw::of_server(&Limits::default(), echo).await;
        for _ in 0..5 {
            raw.frame(Kind::Head, MORE, 1, &vec![0; MAX_PAYLOAD]).await;
        }
        assert_eq!(raw.close().await, Code::HeadTooLarge);
        let (mut raw, _server) = Raw::of_server(&Limits::default(), echo).await;
        let mut many = get("/");
        for _ in 0..257 {
            many.headers_mut().append("x", "y".parse().unwrap());
        }
        raw.ask(1, END, many).await;
        assert_eq!(raw.reset_of(1).await, Code::HeadTooLarge);
    });
}

#[test]
fn frames_for_streams_never_opened_end_the_connection() {
    run(async {
        for kind in [Kind::Data, Kind::Credit, Kind::Reset, Kind::Trailers] {
            let (mut raw, _server) = Raw::of_server(&Limits::default(), echo).await;
            raw.frame(kind, 0, 7, &[0, 0, 0, 1]).await;
            assert_eq!(raw.close().await, Code::Protocol, "{kind:?}");
            let (mut raw, client, _ended) = Raw::of_client(&Limits::default()).await;
            raw.frame(kind, 0, 7, &[0, 0, 0, 1]).await;
            assert_eq!(raw.close().await, Code::Protocol, "{kind:?}");
            drop(client);
        }
    });
}

#[test]
fn a_stream_number_used_again_and_an_answer_nobody_asked_for_end_the_connection() {
    run(async {
        let (mut raw, _server) = Raw::of_server(&Limits::default(), echo).await;
        raw.ask(5, END, get("/")).await;
        raw.ask(5, END, get("/")).await;
        assert_eq!(raw.close().await, Code::Protocol);
        let (mut raw, client, _ended) = Raw::of_client(&Limits::default()).await;
        raw.answer(1, END, 200, &[]).await;
        assert_eq!(raw.close().await, Code::Protocol);
        drop(client);
    });
}

#[test]
fn after_a_reset_what_was_under_way_is_passed_over_and_no_more() {
    run(async {
        let (mut raw, client, ended) = Raw::of_client(&Limits::default()).await;
        let asked = spawn_local(async move {
            client.ask(get("/")).await.map(drop).ok();
            client
        });
        raw.until(Kind::Head).await;
        raw.answer(1, 0, 200, &[]).await;
        assert_eq!(raw.reset_of(1).await, Code::Cancelled);
        let _client = asked.await.unwrap();
        for _ in 0..4 {
            raw.frame(Kind::Data, 0, 1, &[0; 16_000]).await;
        }
        settle().await;
        assert!(!ended.is_finished(), "it had credit for that");
        raw.frame(Kind::Data, 0, 1, &[0; 16_000]).await;
        assert_eq!(raw.close().await, Code::Protocol);
    });
}

#[test]
fn a_peer_that_grants_nothing_is_given_up_and_keeps_little_until_then() {
    run(async {
        let (mut raw, server) = Raw::of_server(&Limits::default(), sized).await;
        raw.ask(1, END, get("/10000000")).await;
        let mut got = 0;
        while got < 65_536 {
            got += raw.until(Kind::Data).await.1.len();
        }
        // The connection lives on, since PINGs are answered.
        loop {
            let (header, payload) = raw.next().await.unwrap();
            match header.kind {
                Kind::Ping => raw.frame(Kind::Pong, 0, 0, &payload).await,
                Kind::Reset => break assert_eq!(crate::support::code(&payload), Code::Stalled),
                kind => panic!("{kind:?}"),
            }
        }
        raw.ask(2, END, get("/5")).await;
        assert_eq!(raw.until(Kind::Data).await.1.len(), 5);
        drop(server);
    });
}

#[test]
fn a_peer_that_reads_nothing_is_given_up() {
    run(async {
        let (near, far) = duplex(1024);
        let server = Server::start(far, &Limits::default(), sized);
        let mut raw = Raw::new(near);
        let mut hello = bytes::BytesMut::new();
        weft_transport::frame::Hello::LEAST.encode(&mut hello);
        raw.bytes(&hello).await;
        raw.ask(1, END, get("/100000")).await;
        assert_eq!(server.end().await, Err(Closed::ByUs(Code::Stalled)));
    });
}

#[test]
fn a_peer_that_never_says_hello_is_given_up() {
    run(async {
        let (_near, far) = duplex(1024);
        let server = Server::start(far, &Limits::default(), echo);
        assert_eq!(server.end().await, Err(Closed::ByUs(Code::Timeout)));
    });
}

#[test]
fn a_server_that_answers_out_of_turn_ends_the_connection() {
    run(async {
        for kind in [Kind::Data, Kind::Trailers] {
            let (mut raw, client, _ended) = Raw::of_client(&Limits::default()).await;
            let asked = spawn_local(async move { client.ask(get("/")).await.map(drop) });
            raw.until(Kind::Head).await;
            raw.frame(kind, 0, 1, &[0, 0]).await;
            assert_eq!(raw.close().await, Code::Protocol);
            let reason = asked.await.unwrap().unwrap_err().reason;
            assert_eq!(reason, Refused::Stream(StreamError::Closed(Closed::ByUs(Code::Protocol))));
        }
    });
}

#[test]
fn a_body_in_single_bytes_costs_no_more_than_its_bytes() {
    run(async {
        let (mut raw, client, _ended) = Raw::of_client(&Limits::default()).await;
        let asked = spawn_local(async move { client.ask(get("/")).await.map_err(|error| error.reason) });
        raw.until(Kind::Head).await;
        raw.answer(1, 0, 200, &[]).await;
        for _ in 0..30_000 {
            raw.frame(Kind::Data, 0, 1, b"x").await;
        }
        raw.frame(Kind::Data, END, 1, b"x").await;
        let answer = asked.await.unwrap().unwrap();
        settle().await;
        settle().await;
        let whole = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        assert_eq!(whole.len(), 30_001);
    });
}

#[test]
fn bodies_nobody_takes_keep_no_more_than_their_credit() {
    run(async {
        let (mut raw, server) = Raw::of_server(&Limits::default(), ignore).await;
        // A stream's worth of data each, in the same large frames as everything else that is read meanwhile.
        for stream in 1..=200 {
            raw.ask(stream, 0, post("/", full("x"))).await;
            for _ in 0..4 {
                raw.frame(Kind::Data, 0, stream, &[0; 16_000]).await;
            }
        }
        settle().await;
        assert!(!server.ended.is_finished());
    });
}

#[test]
fn a_client_cannot_be_made_to_open_streams_or_hear_from_a_server_that_it_should_drain_it() {
    run(async {
        let (mut raw, _server) = Raw::of_server(&Limits::default(), echo).await;
        raw.number(Kind::Drain, 0, 0).await;
        assert_eq!(raw.close().await, Code::Protocol);
        let (near, far) = duplex(1 << 16);
        let (client, ended) = client(far, &Limits::default());
        let mut raw = Raw::new(near);
        raw.bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        assert!(ended.await.unwrap().is_err());
        drop(client);
    });
}
