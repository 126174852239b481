//! What a client makes of what a server says.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, Version};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;
use weft_http1::client::{Answer, Connection, SendError};
use weft_http1::head::Asked;
use weft_http1::server::serve;
use weft_http1::{Config, Control, Error, Refusal};

use crate::support::{QUIET, echo};

type Sent<B> = Result<Answer<DuplexStream, B>, SendError<B>>;

async fn send<B>(connection: &mut Connection<DuplexStream>, method: &Method, body: B) -> Sent<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<weft_http1::BoxError>,
{
    let (uri, headers) = (Uri::from_static("/a?b"), host());
    let asked = Asked { method, uri: &uri, headers: &headers, upgrade: None };
    connection.send(asked, body, |_, _| ()).await
}

fn host() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("a"));
    headers
}

/// A connection whose server has said this and closed, or not.
async fn after(said: &str, close: bool) -> (Connection<DuplexStream>, DuplexStream) {
    let (near, mut far) = duplex(1 << 20);
    far.write_all(said.as_bytes()).await.unwrap();
    if close {
        far.shutdown().await.unwrap();
    }
    (Connection::new(near, Config::default()), far)
}

/// Status, body, and whether the connection can be used again; or the error.
async fn got(said: &str, method: Method, close: bool) -> Result<(u16, String, bool), Error> {
    let (mut connection, _far) = after(said, close).await;
    let answer = send(&mut connection, &method, Empty::new()).await.map_err(|error| error.error)?;
    let status = answer.response.status().as_u16();
    let body = answer.response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned(), connection.is_open()))
}

/// What the server says to which method, whether it closes then, and what is got.
type Case<'a> = (&'a str, Method, bool, (u16, &'a str, bool));

#[tokio::test(start_paused = true)]
async fn answers_are_read_by_their_framing() {
    let cases: &[Case<'_>] = &[
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Method::GET, false, (200, "ok", true)),
        ("HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok", Method::GET, false, (200, "ok", true)),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokX", Method::GET, false, (200, "ok", false)),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
            Method::GET,
            false,
            (200, "ok", false),
        ),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", Method::GET, false, (200, "ok", false)),
        (
            "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok",
            Method::GET,
            false,
            (200, "ok", true),
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            Method::GET,
            false,
            (200, "ok", true),
        ),
        ("HTTP/1.1 200 OK\r\n\r\nto the end", Method::GET, true, (200, "to the end", false)),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", Method::HEAD, false, (200, "", true)),
        ("HTTP/1.1 204 No Content\r\n\r\n", Method::GET, false, (204, "", true)),
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", Method::GET, false, (304, "", true)),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\na: b\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            Method::GET,
            false,
            (200, "", true),
        ),
    ];
    for (said, method, close, (status, body, open)) in cases {
        let found = got(said, method.clone(), *close).await.unwrap();
        assert_eq!(found, (*status, (*body).to_owned(), *open), "{said:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_answer_is_refused() {
    for said in [
        "\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\ncontent-length: 0\n\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length : 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\r\n c\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "SSH-2.0-OpenSSH_9\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n",
    ] {
        let found = got(said, Method::GET, true).await;
        assert!(matches!(found, Err(Error::Refused(_))), "{said:?}: {found:?}");
    }
    let endless = "HTTP/1.1 102 Processing\r\n\r\n".repeat(40);
    assert!(matches!(got(&endless, Method::GET, false).await, Err(Error::Refused(_))));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_is_told_apart_from_its_end() {
    for said in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
        "HTTP/1.1 200 OK\r\ncontent-le",
    ] {
        let found = got(said, Method::GET, true).await;
        assert!(matches!(found, Err(Error::Closed)), "{said:?}: {found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_end_is_told_so_that_the_request_may_be_sent_again() {
    let (mut connection, far) = after("", true).await;
    assert!(!connection.is_open(), "it is seen before anything is sent");
    let error = send(&mut connection, &Method::GET, Empty::new()).await.unwrap_err();
    assert!(error.silent && !error.unwritten && error.unsent.is_none(), "{error:?}");
    drop(far);
    let (mut connection, far) = after("", false).await;
    drop(far);
    let error = send(&mut connection, &Method::GET, Empty::new()).await.unwrap_err();
    assert!(error.silent && error.unwritten && error.unsent.is_some(), "{error:?}");
    let (mut connection, far) = after("", false).await;
    drop(far);
    let error = send(&mut connection, &Method::POST, Full::new(Bytes::from("body"))).await.unwrap_err();
    assert!(
        error.silent && error.unwritten && error.unsent.is_none(),
        "the body was taken, not sent: {error:?}"
    );
    let (mut connection, _far) = after("H", true).await;
    let error = send(&mut connection, &Method::GET, Empty::new()).await.unwrap_err();
    assert!(!error.silent, "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_said_something_unasked_is_not_used() {
    let (connection, mut far) = after("", false).await;
    assert!(connection.is_open());
    far.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
    assert!(!connection.is_open());
}

#[tokio::test(start_paused = true)]
async fn requests_are_written_with_the_framing_of_their_body() {
    async fn written<B>(method: Method, body: B, upgrade: Option<&HeaderValue>) -> String
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<weft_http1::BoxError>,
    {
        let (mut connection, mut far) = after("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", false).await;
        let uri = Uri::from_static("/a?b");
        let mut headers = host();
        headers.insert("content-length", HeaderValue::from_static("77"));
        headers.insert("transfer-encoding", HeaderValue::from_static("gzip"));
        if upgrade.is_none() && body.size_hint().exact().is_none() {
            headers.remove("content-length");
        }
        let asked = Asked { method: &method, uri: &uri, headers: &headers, upgrade };
        let sent = connection.send(asked, body, |_, _| ()).await;
        assert!(sent.is_ok());
        drop((sent, connection));
        let mut all = String::new();
        far.read_to_string(&mut all).await.unwrap();
        all
    }
    let get = written(Method::GET, Empty::new(), None).await;
    assert_eq!(get, "GET /a?b HTTP/1.1\r\nhost: a\r\n\r\n");
    let post = written(Method::POST, Empty::new(), None).await;
    assert_eq!(post, "POST /a?b HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    let put = written(Method::PUT, Full::new(Bytes::from("hello")), None).await;
    assert_eq!(put, "PUT /a?b HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
    let chunked = written(Method::POST, Pieces(vec!["hello", "you"]), None).await;
    let expect = "POST /a?b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nyou\r\n5\r\nhello\r\n0\r\n\r\n";
    assert_eq!(chunked, expect);
    let echo = HeaderValue::from_static("echo");
    let upgrade = written(Method::GET, Empty::new(), Some(&echo)).await;
    assert_eq!(upgrade, "GET /a?b HTTP/1.1\r\nconnection: upgrade\r\nupgrade: echo\r\nhost: a\r\n\r\n");
}

/// A body of unknown length, given from the last piece to the first.
struct Pieces(Vec<&'static str>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.pop().map(|piece| Ok(Frame::data(piece.into()))))
    }
}

#[tokio::test(start_paused = true)]
async fn interim_answers_are_told() {
    let said = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let (mut connection, _far) = after(said, false).await;
    let (uri, headers) = (Uri::from_static("/"), host());
    let asked = Asked { method: &Method::GET, uri: &uri, headers: &headers, upgrade: None };
    let mut told = Vec::new();
    let sent = connection.send(asked, Empty::<Bytes>::new(), |status, headers| {
        told.push((status.as_u16(), headers["link"].clone()));
    });
    assert!(sent.await.is_ok());
    assert_eq!(told, [(103, HeaderValue::from_static("x"))]);
}

#[tokio::test(start_paused = true)]
async fn a_body_waits_for_100_but_not_for_long() {
    let mut headers = host();
    headers.insert("expect", HeaderValue::from_static("100-continue"));
    let uri = Uri::from_static("/");
    let asked = Asked { method: &Method::POST, uri: &uri, headers: &headers, upgrade: None };
    for (before, after_body, sends) in [
        ("HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", true),
        ("", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", true),
        ("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n", "", false),
    ] {
        let (near, mut far) = duplex(4096);
        let mut connection = Connection::new(near, Config::default());
        let serving = async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(far.read_u8().await.unwrap());
            }
            assert!(timeout(QUIET, far.read_u8()).await.is_err(), "the body waits");
            far.write_all(before.as_bytes()).await.unwrap();
            if sends {
                let mut body = [0; 5];
                far.read_exact(&mut body).await.unwrap();
                far.write_all(after_body.as_bytes()).await.unwrap();
            }
        };
        let sending = connection.send(asked, Full::new(Bytes::from("hello")), |_, _| ());
        let (sent, ()) = tokio::join!(sending, serving);
        assert!(sent.unwrap().upload.is_none());
        assert_eq!(connection.is_open(), sends, "{before:?}");
    }
}

/// A body that gives what is put into it.
fn fed() -> (tokio::sync::mpsc::Sender<Bytes>, UnsyncBoxBody<Bytes, std::convert::Infallible>) {
    let (feed, mut fed) = tokio::sync::mpsc::channel(4);
    let frames = futures_util::stream::poll_fn(move |cx| {
        fed.poll_recv(cx).map(|piece| piece.map(Frame::data).map(Ok))
    });
    (feed, http_body_util::StreamBody::new(frames).boxed_unsync())
}

#[tokio::test(start_paused = true)]
async fn an_early_answer_is_read_while_the_body_is_still_sent() {
    let (mut connection, mut far) =
        after("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", false).await;
    let (feed, body) = fed();
    let answer = send(&mut connection, &Method::POST, body).await.unwrap();
    let upload = answer.upload.expect("the body is not sent yet");
    let serving = async {
        feed.send(Bytes::from("later")).await.unwrap();
        drop(feed);
        let mut all = Vec::new();
        while !all.ends_with(b"5\r\nlater\r\n0\r\n\r\n") {
            all.push(far.read_u8().await.unwrap());
        }
        far.write_all(b"0\r\n\r\n").await.unwrap();
    };
    let (body, (), ()) = tokio::join!(answer.response.into_body().collect(), upload, serving);
    assert_eq!(body.unwrap().to_bytes(), "ok");
    assert!(connection.is_open(), "both ways were used to their end");
}

#[tokio::test(start_paused = true)]
async fn an_upload_ends_with_its_answer() {
    for read in [true, false] {
        let (mut connection, _far) =
            after("HTTP/1.1 413 Too Large\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", false).await;
        let (feed, body) = fed();
        let answer = send(&mut connection, &Method::POST, body).await.unwrap();
        let upload = answer.upload.expect("the body is not sent yet");
        let body = answer.response.into_body();
        let reading = async {
            tokio::task::yield_now().await;
            if read {
                body.collect().await.unwrap();
            } else {
                drop(body);
            }
        };
        tokio::join!(upload, reading);
        assert!(feed.is_closed(), "nobody wants the body any more");
        assert!(!connection.is_open());
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_body_that_breaks_off_is_an_error_of_its_own() {
    let (mut connection, _far) = after("", false).await;
    let broken =
        futures_util::stream::iter([Ok(Frame::data(Bytes::from("a"))), Err(std::io::Error::other("gone"))]);
    let body = http_body_util::StreamBody::new(broken).boxed_unsync();
    let error = send(&mut connection, &Method::POST, body).await.unwrap_err();
    assert!(matches!(error.error, Error::Body(_)), "{error:?}");
    assert!(!connection.is_open());
}

#[tokio::test(start_paused = true)]
async fn a_switched_connection_is_taken_over() {
    let said = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nearly";
    let (mut connection, mut far) = after(said, false).await;
    let answer = send(&mut connection, &Method::GET, Empty::new()).await.unwrap();
    assert_eq!((answer.response.status().as_u16(), connection.is_open()), (101, false));
    let mut switched = connection.into_upgrade().await.unwrap();
    let mut early = [0; 5];
    switched.read_exact(&mut early).await.unwrap();
    assert_eq!(&early, b"early");
    switched.write_all(b"late").await.unwrap();
    let mut all = Vec::new();
    while !all.ends_with(b"late") {
        all.push(far.read_u8().await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn client_and_server_understand_each_other_through_a_narrow_pipe() {
    for room in [1, 7, 100, 4096] {
        let (near, far) = duplex(room);
        let control = Rc::new(Control::default());
        let config = Config::default();
        let large = "x".repeat(30_000);
        let talking = async {
            let mut connection = Connection::new(near, Config::default());
            for _ in 0..3 {
                assert!(connection.is_open());
                let sent = send(&mut connection, &Method::POST, Full::new(Bytes::from(large.clone()))).await;
                let response = sent.unwrap().response;
                assert_eq!((response.status().as_u16(), response.version()), (200, Version::HTTP_11));
                let body = response.into_body().collect().await.unwrap().to_bytes();
                assert!(body.ends_with(large.as_bytes()));
            }
        };
        tokio::select! {
            ended = serve(far, &config, &control, echo) => panic!("{ended:?}"),
            () = talking => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_body_is_an_error_once() {
    let (mut connection, _far) =
        after("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz", false).await;
    let answer = send(&mut connection, &Method::GET, Empty::new()).await.unwrap();
    let body = RefCell::new(answer.response.into_body());
    let next = || std::future::poll_fn(|cx| Pin::new(&mut *body.borrow_mut()).poll_frame(cx));
    assert!(matches!(next().await, Some(Err(Error::Refused(Refusal::Malformed(_))))));
    assert!(next().await.is_none());
    assert!(!connection.is_open());
}
