//! Both sides against each other: requests, bodies, trailers, switches, raw bytes, cancellation, fairness, drain.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use weft_transport::{Body, Closed, Code, Limits, Refused, StreamError};

use crate::support::{
    Answer, Ask, Boxed, channel, client, echo, empty, full, get, pair, post, request, run, settle, sized,
    text,
};

const SIZES: [usize; 4] = [1, 100, 20_000, 1 << 20];

#[test]
fn a_request_arrives_as_it_was_sent_and_so_does_its_answer() {
    run(async {
        let seen: Rc<RefCell<Option<http::request::Parts>>> = Rc::default();
        let see = Rc::clone(&seen);
        let (client, _server) = pair(&Limits::default(), 4096, move |request: Request<Body>| {
            *see.borrow_mut() = Some(request.into_parts().0);
            Box::pin(async {
                Response::builder()
                    .status(404)
                    .header("x-a", "1")
                    .header("x-a", "2")
                    .body(full("none"))
                    .unwrap()
            }) as Answer
        });
        let asked = Request::builder()
            .method("PURGE")
            .version(Version::HTTP_2)
            .uri("/a/b?c=%20d")
            .header("host", "shop.example:80")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("te", "trailers")
            .header("x-b", &b"\xff ok"[..])
            .body(full("body"))
            .unwrap();
        let answer = client.ask(asked).await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        assert_eq!(answer.headers().get_all("x-a").iter().count(), 2);
        assert_eq!(text(answer.into_body()).await.unwrap(), "none");
        let seen = seen.borrow_mut().take().unwrap();
        assert_eq!((seen.method.as_str(), seen.version), ("PURGE", Version::HTTP_2));
        assert_eq!(
            (seen.uri.to_string().as_str(), &seen.headers["host"]),
            ("/a/b?c=%20d", &"shop.example:80".parse().unwrap())
        );
        assert_eq!(seen.headers.get_all("cookie").iter().count(), 2);
        assert_eq!(
            (seen.headers["te"].as_bytes(), seen.headers["x-b"].as_bytes()),
            (&b"trailers"[..], &b"\xff ok"[..])
        );
    });
}

#[test]
fn bodies_of_any_size_pass_whole_through_pipes_of_any_size() {
    for pipe in SIZES {
        run(async move {
            let (client, _server) = pair(&Limits::default(), pipe, echo);
            for size in [0, 1, 4096, 4097, 16_376, 16_377, 300_000] {
                if size / pipe > 100_000 {
                    continue;
                }
                let body: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
                let answer = client.ask(post("/", full(body.clone()))).await.unwrap();
                assert!(text(answer.into_body()).await.unwrap() == body, "{size} through {pipe}");
            }
        });
    }
}

#[test]
fn trailers_pass_both_ways() {
    run(async {
        let (client, _server) = pair(&Limits::default(), 4096, echo);
        let trailers: HeaderMap =
            [(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))].into_iter().collect();
        let (frames, body) = channel();
        frames.send(Ok(Frame::data(Bytes::from("x")))).unwrap();
        frames.send(Ok(Frame::trailers(trailers.clone()))).unwrap();
        let answer = client.ask(post("/", body)).await.unwrap();
        let whole = answer.into_body().collect().await.unwrap();
        assert_eq!(whole.trailers(), Some(&trailers));
        assert_eq!(whole.to_bytes(), "x");
    });
}

#[test]
fn a_stream_of_calls_goes_both_ways_at_once() {
    run(async {
        let (client, _server) = pair(&Limits::default(), 64, echo);
        let (frames, body) = channel();
        let answer = client.ask(post("/", body)).await.unwrap();
        let mut answer = answer.into_body();
        for word in ["one", "two", "three"] {
            frames.send(Ok(Frame::data(Bytes::from(word)))).unwrap();
            assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), word);
        }
        drop(frames);
        assert!(answer.frame().await.is_none());
    });
}

#[test]
fn a_request_goes_on_while_nobody_reads_its_answer() {
    run(async {
        let taken = Rc::new(Cell::new(0));
        let count = Rc::clone(&taken);
        let (client, _server) = pair(&Limits::default(), 4096, move |request: Request<Body>| {
            let count = Rc::clone(&count);
            Box::pin(async move {
                spawn_local(async move {
                    let mut body = request.into_body();
                    while let Some(Ok(frame)) = body.frame().await {
                        count.set(count.get() + frame.into_data().map_or(0, |data| data.len()));
                    }
                });
                Response::new(channel_kept_open())
            }) as Answer
        });
        let (frames, body) = channel();
        let answer = client.ask(post("/", body)).await.unwrap();
        for _ in 0..100 {
            frames.send(Ok(Frame::data(Bytes::from(vec![0; 10_000])))).unwrap();
        }
        drop(frames);
        settle().await;
        settle().await;
        settle().await;
        assert_eq!(taken.get(), 1_000_000);
        drop(answer);
    });
}

fn channel_kept_open() -> Boxed {
    let (frames, body) = channel();
    std::mem::forget(frames);
    body
}

#[test]
fn an_answer_to_head_keeps_its_length_and_has_no_body() {
    run(async {
        let (client, _server) = pair(&Limits::default(), 4096, |_| {
            Box::pin(async {
                Response::builder().header("content-length", "10").body(full("0123456789")).unwrap()
            }) as Answer
        });
        let answer = client.ask(request(Method::HEAD, "/", empty())).await.unwrap();
        assert_eq!(answer.headers()["content-length"], "10");
        assert!(answer.body().is_end_stream());
        let answer = client.ask(get("/")).await.unwrap();
        assert_eq!(answer.body().size_hint().exact(), Some(10));
    });
}

#[test]
fn a_small_answer_does_not_wait_for_a_large_one() {
    run(async {
        let (client, _server) = pair(&Limits::default(), 4096, sized);
        let large = client.ask(get("/3000000")).await.unwrap();
        let reading = spawn_local(text(large.into_body()));
        tokio::task::yield_now().await;
        let small = client.ask(get("/10")).await.unwrap();
        assert_eq!(text(small.into_body()).await.unwrap().len(), 10);
        assert!(!reading.is_finished(), "the large one is still under way");
        assert_eq!(reading.await.unwrap().unwrap().len(), 3_000_000);
    });
}

#[test]
fn a_stream_nobody_reads_stops_no_other_and_holds_no_more_than_its_credit() {
    run(async {
        let (client, _server) = pair(&Limits::default(), 1 << 16, sized);
        let mut unread = Vec::new();
        for _ in 0..200 {
            unread.push(client.ask(get("/1000000")).await.unwrap());
        }
        settle().await;
        let answer = client.ask(get("/1000000")).await.unwrap();
        assert_eq!(text(answer.into_body()).await.unwrap().len(), 1_000_000);
        for answer in unread {
            assert!(answer.body().size_hint().lower() <= 64 * 1024, "{:?}", answer.body().size_hint());
        }
    });
}

#[test]
fn two_large_bodies_share_the_connection_evenly() {
    run(async {
        let (client, _server) = pair(&Limits::default(), 16 * 1024, sized);
        let mut bodies = Vec::new();
        for _ in 0..2 {
            bodies.push(client.ask(get("/4000000")).await.unwrap().into_body());
        }
        let counts: Vec<Rc<Cell<usize>>> = vec![Rc::default(), Rc::default()];
        for (mut body, count) in bodies.into_iter().zip(&counts) {
            let count = Rc::clone(count);
            spawn_local(async move {
                while let Some(Ok(frame)) = body.frame().await {
                    count.set(count.get() + frame.into_data().unwrap().len());
                }
            });
        }
        while counts.iter().all(|count| count.get() < 2_000_000) {
            tokio::task::yield_now().await;
        }
        let (one, two) = (counts[0].get(), counts[1].get());
        assert!(one.abs_diff(two) < 700_000, "{one} and {two}");
    });
}

#[test]
fn a_long_body_in_small_pieces_is_no_flood() {
    run(async {
        let limits = Limits { full_credit: 64 * 1024, ..Limits::default() };
        let (client, _server) = pair(&limits, 1 << 16, echo);
        let (frames, body) = channel();
        let mut answer = client.ask(post("/", body)).await.unwrap().into_body();
        let (mut sent, mut got) = (0, 0);
        while sent < 40_000_000 {
            for _ in 0..20 {
                frames.send(Ok(Frame::data(Bytes::from_static(&[7; 1000])))).unwrap();
                sent += 1000;
            }
            while got < sent {
                got += answer.frame().await.unwrap().unwrap().into_data().unwrap().len();
            }
        }
    });
}

/// A handler that never answers and tells when it is dropped.
fn stuck(dropped: &Rc<Cell<u32>>) -> impl Fn(Request<Body>) -> Answer + Unpin + use<> {
    struct Told(Rc<Cell<u32>>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let dropped = Rc::clone(dropped);
    move |_| {
        let told = Told(Rc::clone(&dropped));
        Box::pin(async move {
            std::future::pending::<()>().await;
            drop(told);
            Response::new(empty())
        })
    }
}

#[test]
fn a_request_given_up_is_given_up_by_whoever_answers_it() {
    run(async {
        let dropped = Rc::default();
        let (client, _server) = pair(&Limits::default(), 4096, stuck(&dropped));
        let asking = client.clone();
        let asked = spawn_local(async move { asking.ask(get("/")).await.map(drop) });
        settle().await;
        assert_eq!((dropped.get(), client.streams()), (0, 1));
        asked.abort();
        settle().await;
        assert_eq!((dropped.get(), client.streams()), (1, 0));
    });
}

#[test]
fn an_answer_given_up_ends_the_body_that_is_being_sent() {
    run(async {
        let (frames, body) = channel();
        let body = RefCell::new(Some(body));
        let (client, _server) = pair(&Limits::default(), 4096, move |_| {
            let body = body.borrow_mut().take().unwrap();
            Box::pin(async { Response::new(body) }) as Answer
        });
        let answer = client.ask(get("/")).await.unwrap();
        assert!(!frames.is_closed());
        drop(answer);
        settle().await;
        assert!(frames.is_closed());
    });
}

#[test]
fn a_body_that_breaks_off_is_no_body_that_ends() {
    run(async {
        let (client, _server) = pair(&Limits::default(), 4096, |_| {
            let (frames, body) = channel();
            frames.send(Ok(Frame::data(Bytes::from("half")))).unwrap();
            frames.send(Err(StreamError::Closed(Closed::Eof))).unwrap();
            Box::pin(async { Response::new(body) }) as Answer
        });
        let answer = client.ask(get("/")).await.unwrap();
        assert_eq!(text(answer.into_body()).await, Err(StreamError::Reset(Code::Cancelled)));
        let (frames, body) = channel();
        frames.send(Err(StreamError::Closed(Closed::Eof))).unwrap();
        let error = client.ask(post("/", body)).await.unwrap_err();
        assert_eq!(error.reason, Refused::Body);
    });
}

#[test]
fn an_answer_may_come_before_the_request_has_ended_and_stops_it() {
    run(async {
        let (client, _server) = pair(&Limits::default(), 4096, |_| {
            Box::pin(async { Response::builder().status(413).body(full("no")).unwrap() }) as Answer
        });
        let (frames, body) = channel();
        frames.send(Ok(Frame::data(Bytes::from(vec![0; 200_000])))).unwrap();
        let answer = client.ask(post("/", body)).await.unwrap();
        assert_eq!(answer.status(), 413);
        assert_eq!(text(answer.into_body()).await.unwrap(), "no");
        settle().await;
        assert!(frames.is_closed(), "the rest is not needed");
        assert_eq!(client.streams(), 0);
    });
}

fn upgrade(path: &str) -> Request<Boxed> {
    let mut request = get(path);
    request.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
    request.headers_mut().insert("upgrade", HeaderValue::from_static("websocket"));
    request
}

/// Agrees to switch and sends back what comes, once all of it has come.
fn switch(request: Request<Body>) -> Answer {
    Box::pin(async move {
        let connect = request.method() == Method::CONNECT;
        let protocol = request.headers().get("upgrade").cloned();
        let mut body = request.into_body();
        let upgrade = body.take_upgrade().expect("it may switch");
        spawn_local(async move {
            let mut tunnel = upgrade.await.unwrap();
            let mut all = Vec::new();
            tunnel.read_to_end(&mut all).await.unwrap();
            tunnel.write_all(&all).await.unwrap();
            tunnel.shutdown().await.unwrap();
        });
        let mut answer = Response::new(empty());
        if !connect {
            *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            answer.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
            answer.headers_mut().insert("upgrade", protocol.unwrap());
        }
        answer
    })
}

#[test]
fn an_upgraded_stream_is_bytes_both_ways_and_each_way_ends_by_itself() {
    for pipe in SIZES {
        run(async move {
            let (client, _server) = pair(&Limits::default(), pipe, switch);
            let connect = Request::builder().method("CONNECT").uri("a:80").body(empty()).unwrap();
            for asked in [upgrade("/ws"), connect] {
                let is_connect = *asked.method() == Method::CONNECT;
                let answer = client.ask(asked).await.unwrap();
                if !is_connect {
                    assert_eq!(
                        (answer.status().as_u16(), &answer.headers()["upgrade"]),
                        (101, &"websocket".parse().unwrap())
                    );
                }
                let mut tunnel = answer.into_body().into_tunnel().unwrap();
                let sent = vec![7; 50_000.min(pipe * 1000)];
                tunnel.write_all(&sent).await.unwrap();
                tunnel.shutdown().await.unwrap();
                let mut back = Vec::new();
                tunnel.read_to_end(&mut back).await.unwrap();
                assert!(back == sent);
            }
            settle().await;
            assert_eq!(client.streams(), 0);
        });
    }
}

#[test]
fn a_refused_upgrade_stays_a_request_and_one_with_a_body_is_sent_without() {
    run(async {
        let (client, _server) = pair(&Limits::default(), 4096, |request: Request<Body>| {
            Box::pin(async move {
                let asked = request.headers().contains_key("upgrade");
                let got = text(request.into_body()).await.unwrap();
                Response::new(full(format!("{asked} {got:?}")))
            }) as Answer
        });
        let answer = client.ask(upgrade("/")).await.unwrap();
        assert_eq!(text(answer.into_body()).await.unwrap(), "true b\"\"");
        let mut with_body = upgrade("/");
        *with_body.body_mut() = full("x");
        let answer = client.ask(with_body).await.unwrap();
        assert_eq!(text(answer.into_body()).await.unwrap(), "false b\"x\"");
        settle().await;
        assert_eq!(client.streams(), 0);
    });
}

#[test]
fn a_tunnel_dropped_breaks_the_other_end() {
    run(async {
        let (tell, told) = oneshot::channel();
        let tell = RefCell::new(Some(tell));
        let (client, _server) = pair(&Limits::default(), 4096, move |request: Request<Body>| {
            let tell = tell.borrow_mut().take().unwrap();
            let upgrade = request.into_body().take_upgrade().unwrap();
            spawn_local(async move {
                let mut tunnel = upgrade.await.unwrap();
                tell.send(tunnel.read(&mut [0]).await.unwrap_err().kind()).unwrap();
            });
            Box::pin(async {
                Response::builder()
                    .status(101)
                    .header("upgrade", "websocket")
                    .header("connection", "upgrade")
                    .body(empty())
                    .unwrap()
            }) as Answer
        });
        let tunnel = client.ask(upgrade("/")).await.unwrap().into_body().into_tunnel().unwrap();
        drop(tunnel);
        assert_eq!(told.await.unwrap(), std::io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn raw_bytes_pass_both_ways_and_each_way_ends_by_itself() {
    for pipe in SIZES {
        run(async move {
            let (client, _server) = pair(&Limits::default(), pipe, echo);
            let mut tunnel = client.open_tcp().unwrap();
            let sent = vec![9; 40_000.min(pipe * 1000)];
            let (mut from, mut to) = tokio::io::split(&mut tunnel);
            let mut back = Vec::new();
            let writing = async {
                to.write_all(&sent).await.unwrap();
                to.shutdown().await.unwrap();
            };
            tokio::join!(writing, async { from.read_to_end(&mut back).await.unwrap() });
            assert!(back == sent);
        });
    }
}

#[test]
fn raw_bytes_wait_for_their_reader_as_long_as_it_likes() {
    run(async {
        let limits = Limits { stall_timeout: Duration::from_mins(1), ..Limits::default() };
        let (client, _server) = pair(&limits, 4096, echo);
        let tunnel = client.open_tcp().unwrap();
        let (mut from, mut to) = tokio::io::split(tunnel);
        // More than there is credit for both ways, so that both sides stand still.
        let writing = spawn_local(async move {
            to.write_all(&vec![9; 3_000_000]).await.unwrap();
            to.shutdown().await.unwrap();
        });
        // The clock of this test goes on by itself.
        tokio::time::sleep(Duration::from_mins(30)).await;
        assert!(!writing.is_finished(), "there was credit for all of it");
        let mut back = Vec::new();
        from.read_to_end(&mut back).await.unwrap();
        assert_eq!(back.len(), 3_000_000);
        writing.await.unwrap();
    });
}

#[test]
fn a_connection_drained_ends_with_its_last_stream_and_takes_what_was_on_its_way() {
    run(async {
        let (client, server) = pair(&Limits::default(), 4096, sized);
        let large = client.ask(get("/2000000")).await.unwrap();
        settle().await;
        server.drain();
        // Sent before the client has heard of it.
        let on_its_way = client.ask(get("/5")).await.unwrap();
        assert_eq!(text(on_its_way.into_body()).await.unwrap().len(), 5);
        settle().await;
        assert!(!client.is_usable());
        let error = client.ask(get("/5")).await.unwrap_err();
        assert_eq!((error.reason, error.unprocessed, error.unsent.is_some()), (Refused::Full, true, true));
        assert_eq!(text(large.into_body()).await.unwrap().len(), 2_000_000);
        assert_eq!(server.end().await, Ok(()));
    });
}

#[test]
fn a_client_that_is_dropped_ends_the_connection_with_its_last_stream() {
    run(async {
        let (near, far) = tokio::io::duplex(4096);
        let server = crate::support::Server::start(far, &Limits::default(), sized);
        let (client, ended) = client(near, &Limits::default());
        let answer = client.ask(get("/500000")).await.unwrap();
        drop(client);
        assert_eq!(text(answer.into_body()).await.unwrap().len(), 500_000);
        assert_eq!(ended.await.unwrap(), Ok(()));
        assert_eq!(server.end().await, Ok(()));
    });
}

#[test]
fn a_connection_that_breaks_ends_its_streams_and_says_what_was_never_written() {
    run(async {
        let (near, far) = tokio::io::duplex(64);
        let (client, ended) = client(near, &Limits::default());
        let sending: Vec<_> = (0..3)
            .map(|_| {
                let client = client.clone();
                spawn_local(async move { client.ask(get(&format!("/{}", "a".repeat(60)))).await.map(drop) })
            })
            .collect();
        settle().await;
        let late = client.clone();
        let late = spawn_local(async move { late.ask(get("/late")).await.map(drop) });
        settle().await;
        drop(far);
        for sent in sending {
            let error = sent.await.unwrap().unwrap_err();
            assert!(!error.unprocessed, "it may have been read");
        }
        let error = late.await.unwrap().unwrap_err();
        assert!(error.unprocessed && error.unsent.is_some(), "{error:?}");
        assert!(ended.await.unwrap().is_err());
        assert!(!client.is_usable());
    });
}
