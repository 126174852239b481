//! What a server answers, and when it closes.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::sync::oneshot;
use tokio::time::timeout;
use weft_http1::server::{Incoming, serve};
use weft_http1::{Config, Control, Error, Order, Refusal};

use crate::support::{QUIET, ask, ask_in_pieces, converse, echo, statuses, text};

#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_answered_in_order_however_they_are_cut() {
    let bytes = "GET /1 HTTP/1.1\r\nhost: a\r\n\r\n\r\nPOST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nab\n\r\n\
                 POST /3 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;x\r\nabc\r\n2\r\nde\r\n0\r\nt: 1\r\nhost: b\r\n\r\n\
                 GET /4?q=%20 HTTP/1.1\r\nHost: a\r\nx-y: ü \r\n\r\n";
    let (whole, _) = ask_in_pieces(bytes.as_bytes(), usize::MAX).await;
    assert_eq!(statuses(&whole), ["200"; 4]);
    assert!(whole.contains("POST /2 HTTP/1.1\nhost: a\ncontent-length: 5\n\nab\n\r\n"), "{whole}");
    assert!(whole.contains("transfer-encoding: chunked\ntrailer t: 1\n\nabcde"), "{whole}");
    assert!(whole.ends_with("GET /4?q=%20 HTTP/1.1\nhost: a\nx-y: ü\n\n"), "{whole}");
    for size in 1..40 {
        let (cut, ended) = ask_in_pieces(bytes.as_bytes(), size).await;
        assert_eq!(cut, whole, "by {size}");
        assert!(ended.is_none(), "the connection stays open");
    }
}

#[tokio::test(start_paused = true)]
async fn every_form_of_target_is_read() {
    for (line, uri) in
        [("GET http://b.example:8080/x?y HTTP/1.1", "http://b.example:8080/x?y"), ("OPTIONS * HTTP/1.1", "*")]
    {
        let answer = ask(format!("{line}\r\nhost: a\r\n\r\n").as_bytes()).await;
        assert!(answer.contains(&format!(" {uri} HTTP/1.1\n")), "{line}: {answer}");
    }
    assert_eq!(ask(b"CONNECT a.example:443 HTTP/1.1\r\nhost: a\r\n\r\n").await, "HTTP/1.1 200 OK\r\n\r\n");
}

#[tokio::test(start_paused = true)]
async fn limits_are_told_apart_by_status() {
    let line = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(20_000));
    let head = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(70_000));
    let count = format!("GET / HTTP/1.1\r\n{}\r\n", "x: 1\r\n".repeat(101));
    for (bytes, status) in [(line, "414"), (head, "431"), (count, "431")] {
        for size in [usize::MAX, 1000] {
            let (answer, ended) = ask_in_pieces(bytes.as_bytes(), size).await;
            assert_eq!(statuses(&answer), [status]);
            assert!(matches!(ended, Some(Ok(()))));
        }
    }
    let most = format!("GET / HTTP/1.1\r\n{}\r\n", "x: 1\r\n".repeat(100));
    assert_eq!(statuses(&ask(most.as_bytes()).await), ["200"]);
}

#[tokio::test(start_paused = true)]
async fn the_connection_is_closed_when_either_side_says_so() {
    let close = "GET / HTTP/1.1\r\nhost: a\r\nconnection: x, Close\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\n";
    let (answer, ended) = ask_in_pieces(close.as_bytes(), usize::MAX).await;
    assert!(answer.contains("\r\nconnection: close\r\n") && ended.is_some(), "{answer}");
    assert_eq!(statuses(&answer), ["200"]);
    let old = "GET / HTTP/1.0\r\n\r\n";
    let (answer, ended) = ask_in_pieces(old.as_bytes(), usize::MAX).await;
    assert!(answer.contains("\r\nconnection: close\r\n") && ended.is_some(), "{answer}");
    let kept =
        "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n";
    let (answer, ended) = ask_in_pieces(kept.as_bytes(), usize::MAX).await;
    assert_eq!(answer.matches("connection: keep-alive\r\n").count(), 2, "{answer}");
    assert!(ended.is_none());
}

/// An answer whose length is not known.
fn streamed(
    pieces: &[&'static str],
    trailers: Option<HeaderMap>,
) -> Response<impl http_body::Body<Data = Bytes, Error = Error>> {
    let frames: Vec<_> = pieces.iter().map(|piece| Ok(Frame::data(Bytes::from(*piece)))).collect();
    let frames = frames.into_iter().chain(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
    Response::new(StreamBody::new(tokio_stream(frames)))
}

fn tokio_stream<T>(items: impl Iterator<Item = T>) -> impl futures_util::Stream<Item = T> {
    let mut items = items;
    futures_util::stream::poll_fn(move |_| std::task::Poll::Ready(items.next()))
}

async fn answered<B>(request: &str, answer: Response<B>) -> (String, Result<(), Error>)
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<weft_http1::BoxError>,
{
    let (mut near, far) = duplex(1 << 20);
    near.write_all(request.as_bytes()).await.unwrap();
    let answer = Cell::new(Some(answer));
    let control = Rc::new(Control::default());
    let config = Config::default();
    let handler = |_| std::future::ready(answer.take().unwrap());
    let talking = async {
        let mut said = Vec::new();
        let mut piece = [0; 4096];
        while let Ok(Ok(count @ 1..)) = timeout(QUIET, near.read(&mut piece)).await {
            said.extend_from_slice(&piece[..count]);
        }
        drop(near);
        String::from_utf8(said).unwrap()
    };
    let (ended, said) = tokio::join!(serve(far, &config, &control, handler), talking);
    (said, ended)
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_unknown_length_is_chunked_with_its_trailers() {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert("content-length", HeaderValue::from_static("5"));
    let (said, _) =
        answered("GET / HTTP/1.1\r\nhost: a\r\n\r\n", streamed(&["one", "", "three"], Some(trailers))).await;
    let expect = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n5\r\nthree\r\n0\r\ngrpc-status: 0\r\n\r\n";
    assert_eq!(said, expect);
    let (said, ended) = answered("GET / HTTP/1.0\r\n\r\n", streamed(&["one", "two"], None)).await;
    assert_eq!(said, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nonetwo");
    assert!(ended.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_body_of_another_length_than_told_breaks_the_connection() {
    for pieces in [&["four"][..], &["five5", "six666"]] {
        let mut answer = streamed(pieces, None);
        answer.headers_mut().insert("content-length", HeaderValue::from_static("5"));
        let (_, ended) = answered("GET / HTTP/1.1\r\nhost: a\r\n\r\n", answer).await;
        let all = pieces.concat().len();
        // What is beyond the length is never looked at.
        assert_eq!(matches!(ended, Err(Error::Length)), all < 5, "{pieces:?}: {ended:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn answers_without_a_body_have_none() {
    let full = |status| text(StatusCode::from_u16(status).unwrap(), "body");
    let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    assert_eq!(answered(get, full(204)).await.0, "HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(answered(get, full(304)).await.0, "HTTP/1.1 304 Not Modified\r\n\r\n");
    let head = answered("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n", full(200)).await.0;
    assert_eq!(head, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n");
}

#[tokio::test(start_paused = true)]
async fn one_hundred_is_sent_when_the_body_is_wanted() {
    let (mut near, far) = duplex(4096);
    let control = Rc::new(Control::default());
    let config = Config::default();
    let talking = async {
        near.write_all(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
            .await
            .unwrap();
        let mut said = [0; 25];
        near.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"HTTP/1.1 100 Continue\r\n\r\n");
        near.write_all(b"ok").await.unwrap();
        let mut said = vec![0; 4096];
        let count = near.read(&mut said).await.unwrap();
        let said = String::from_utf8_lossy(&said[..count]).into_owned();
        assert!(said.starts_with("HTTP/1.1 200 ") && said.ends_with("\n\nok"), "{said}");
    };
    tokio::select! {
        ended = serve(far, &config, &control, echo) => panic!("{ended:?}"),
        () = talking => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_nobody_wants_is_not_asked_for_and_ends_the_connection() {
    let expecting = b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    let refusing = |_| std::future::ready(text(StatusCode::FORBIDDEN, "no"));
    let (answer, ended) = converse(&[expecting], Config::default(), refusing).await;
    assert_eq!(statuses(&answer), ["403"]);
    assert!(answer.contains("connection: close\r\n") && ended.is_some(), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_short_body_nobody_wants_is_read_and_a_long_one_ends_the_connection() {
    let refusing = |_| std::future::ready(text(StatusCode::FORBIDDEN, "no"));
    let short = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5000\r\n\r\n{}", "x".repeat(5000));
    let next = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let pieces = [&short.as_bytes()[..100], &short.as_bytes()[100..], next.as_bytes()];
    let (answer, ended) = converse(&pieces, Config::default(), refusing).await;
    assert_eq!(statuses(&answer), ["403", "403"]);
    assert!(ended.is_none(), "{ended:?}");
    let long = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 500000\r\n\r\n{}", "x".repeat(500_000));
    let (answer, ended) = converse(&[long.as_bytes(), next.as_bytes()], Config::default(), refusing).await;
    assert_eq!(statuses(&answer), ["403"]);
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert!(matches!(ended, Some(Ok(()))), "{ended:?}");
    let chunked = format!(
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{}",
        "4\r\nabcd\r\n".repeat(30_000)
    );
    let (answer, ended) = converse(&[chunked.as_bytes()], Config::default(), refusing).await;
    assert_eq!(statuses(&answer), ["403"]);
    assert!(matches!(ended, Some(Ok(()))), "{ended:?}");
}

#[tokio::test(start_paused = true)]
async fn the_handler_is_dropped_when_the_client_goes() {
    struct Told(Option<oneshot::Sender<()>>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.take().unwrap().send(()).unwrap();
        }
    }
    let (tell, told) = oneshot::channel();
    let told_once = RefCell::new(Some(Told(Some(tell))));
    let (mut near, far) = duplex(4096);
    let control = Rc::new(Control::default());
    let config = Config::default();
    let handler = |_| {
        let told = told_once.take();
        async move {
            let _told = told;
            std::future::pending().await
        }
    };
    let serving = serve::<_, _, _, Full<Bytes>>(far, &config, &control, handler);
    let talking = async {
        near.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        tokio::task::yield_now().await;
        drop(near);
    };
    let (ended, ()) = tokio::join!(serving, talking);
    assert!(matches!(ended, Err(Error::Closed)), "{ended:?}");
    told.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn interim_answers_go_out_before_the_final_one() {
    let handler = |incoming: Result<Incoming<_>, Refusal>| async move {
        let mut links = HeaderMap::new();
        links.insert("link", HeaderValue::from_static("</a>"));
        incoming.unwrap().connection.inform(StatusCode::EARLY_HINTS, &links);
        tokio::task::yield_now().await;
        text(StatusCode::OK, "done")
    };
    let (answer, _) = converse(&[b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"], Config::default(), handler).await;
    let expect =
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone";
    assert_eq!(answer, expect);
    let (answer, _) = converse(&[b"GET / HTTP/1.0\r\n\r\n"], Config::default(), handler).await;
    assert_eq!(statuses(&answer), ["200"]);
}

#[tokio::test(start_paused = true)]
async fn a_switched_connection_keeps_what_came_early() {
    for (request, status) in [
        ("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nearly", 101),
        ("CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\nearly", 200),
    ] {
        let (mut near, far) = duplex(4096);
        near.write_all(request.as_bytes()).await.unwrap();
        let (give, taken) = oneshot::channel();
        let give = Cell::new(Some(give));
        let handler = |incoming: Result<Incoming<_>, Refusal>| {
            let switch = incoming.unwrap().connection.on_upgrade().expect("it asks for one");
            give.take().unwrap().send(switch).unwrap();
            std::future::ready(text(StatusCode::from_u16(status).unwrap(), ""))
        };
        let control = Rc::new(Control::default());
        serve(far, &Config::default(), &control, handler).await.unwrap();
        let mut switched = taken.await.unwrap().await.unwrap();
        let mut early = [0; 5];
        switched.read_exact(&mut early).await.unwrap();
        assert_eq!(&early, b"early");
        switched.write_all(b"late").await.unwrap();
        drop(switched);
        let mut said = String::new();
        near.read_to_string(&mut said).await.unwrap();
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")) && said.ends_with("\r\n\r\nlate"), "{said}");
        assert!(!said.contains("content-length"), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_declined_switch_is_told_and_the_connection_goes_on() {
    let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    let switches = RefCell::new(Vec::new());
    let handler = |incoming: Result<Incoming<_>, Refusal>| {
        switches.borrow_mut().extend(incoming.unwrap().connection.on_upgrade());
        std::future::ready(text(StatusCode::OK, ""))
    };
    let (answer, ended) = converse(&[request, request], Config::default(), handler).await;
    assert_eq!(statuses(&answer), ["200", "200"]);
    assert!(ended.is_none());
    for switch in switches.take() {
        assert!(switch.await.is_err());
    }
}

/// Sends these bytes, then gives this order, and says how the server ended.
async fn told(bytes: &[u8], order: Order) -> (String, Result<(), Error>) {
    let (mut near, far) = duplex(4096);
    let control = Rc::new(Control::default());
    let config = Config::default();
    let talking = async {
        near.write_all(bytes).await.unwrap();
        tokio::time::sleep(QUIET).await;
        control.tell(order);
        let mut said = String::new();
        near.read_to_string(&mut said).await.unwrap();
        said
    };
    let (ended, said) = tokio::join!(timeout(20 * QUIET, serve(far, &config, &control, echo)), talking);
    (said, ended.expect("it ends in time"))
}

#[tokio::test(start_paused = true)]
async fn orders_are_followed() {
    let (said, ended) = told(b"GET / HTTP/1.1\r\nhos", Order::TimeOut).await;
    assert_eq!((statuses(&said), ended.is_ok()), (vec!["408"], true));
    let (said, ended) =
        told(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nab", Order::TimeOut).await;
    assert_eq!((statuses(&said), ended.is_ok()), (vec!["408"], true));
    for order in [Order::TimeOut, Order::Finish, Order::Close] {
        let (said, ended) = told(b"", order).await;
        assert_eq!((said.as_str(), ended.is_ok()), ("", true));
    }
    let (said, ended) = told(b"GET / HT", Order::Close).await;
    assert_eq!((said.as_str(), ended.is_ok()), ("", true));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_on_just_when_it_is_given_up_is_answered() {
    let (mut near, far) = duplex(4096);
    let control = Rc::new(Control::default());
    let config = Config::default();
    let handler = |_| async {
        tokio::time::sleep(QUIET).await;
        text(StatusCode::OK, "done")
    };
    let talking = async {
        near.write_all(b"GET / HTTP/1.1\r\nhos").await.unwrap();
        tokio::time::sleep(QUIET).await;
        near.write_all(b"t: a\r\n\r\n").await.unwrap();
        control.tell(Order::TimeOut);
        let mut said = String::new();
        near.read_to_string(&mut said).await.unwrap();
        said
    };
    let (ended, said) = tokio::join!(serve(far, &config, &control, handler), talking);
    assert_eq!((statuses(&said), ended.is_ok()), (vec!["200"], true));
    assert!(said.contains("connection: close\r\n"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn after_the_order_each_answer_is_the_last() {
    let (mut near, far) = duplex(4096);
    let control = Rc::new(Control::default());
    control.tell(Order::Last);
    let config = Config::default();
    let mut serving = pin!(serve(far, &config, &control, echo));
    assert!(timeout(QUIET, &mut serving).await.is_err(), "it waits for a request that may be on its way");
    near.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    serving.await.unwrap();
    let mut said = String::new();
    near.read_to_string(&mut said).await.unwrap();
    assert!(said.contains("connection: close\r\n"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_body_can_be_sent_back_while_it_comes() {
    let (mut near, far) = duplex(1000);
    let handler = |incoming: Result<Incoming<_>, Refusal>| async move {
        Response::new(incoming.unwrap().request.into_body())
    };
    let control = Rc::new(Control::default());
    let config = Config::default();
    let talking = async {
        near.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        let mut head = vec![0; 47];
        for piece in ["one", "three"] {
            near.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()).await.unwrap();
            near.read_exact(&mut head).await.unwrap();
            head = vec![0; 0];
            let mut back = vec![0; piece.len() + 5];
            near.read_exact(&mut back).await.unwrap();
            assert_eq!(String::from_utf8(back).unwrap(), format!("{:x}\r\n{piece}\r\n", piece.len()));
        }
        near.write_all(b"0\r\n\r\n").await.unwrap();
        let mut end = [0; 5];
        near.read_exact(&mut end).await.unwrap();
        assert_eq!(&end, b"0\r\n\r\n");
    };
    tokio::select! {
        ended = serve(far, &config, &control, handler) => panic!("{ended:?}"),
        () = talking => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_held_beyond_its_exchange_reads_nothing_of_the_next() {
    let kept = RefCell::new(Vec::new());
    let handler = |incoming: Result<Incoming<_>, Refusal>| {
        kept.borrow_mut().push(incoming.unwrap().request.into_body());
        std::future::ready(text(StatusCode::OK, ""))
    };
    let first: &[u8] = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nab";
    let rest: &[u8] = b"cdeGET / HTTP/1.1\r\nhost: a\r\n\r\n";
    let (answer, ended) = converse(&[first, rest], Config::default(), handler).await;
    assert_eq!(statuses(&answer), ["200", "200"]);
    assert!(ended.is_none());
    let body = kept.borrow_mut().remove(0);
    assert!(matches!(body.collect().await, Err(Error::Over)));
}
