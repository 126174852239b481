//! HTTP/2 and gRPC through two proxies: streams both ways, trailers, deadlines, refusals in gRPC's own words.

use std::convert::Infallible;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use weft_api::v1;

use crate::support::{PATIENCE, app, echo, pair_with, read, until};

type Frames = mpsc::Sender<Result<Frame<Bytes>, Infallible>>;
type Channel = StreamBody<ReceiverStream<Result<Frame<Bytes>, Infallible>>>;
type Sender<B> = hyper::client::conn::http2::SendRequest<B>;

/// A body that is sent piece by piece.
fn channel() -> (Frames, Channel) {
    let (sender, receiver) = mpsc::channel(4);
    (sender, StreamBody::new(ReceiverStream::new(receiver)))
}

async fn connect<B>(to: std::net::SocketAddr) -> Sender<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TcpStream::connect(to).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let tasks = TaskTracker::new();
    tasks.spawn(async move { drop(connection.await) });
    sender
}

fn grpc(_: &mut v1::Inbound, destination: &mut v1::Destination) {
    destination.protocol = v1::Protocol::Grpc.into();
}

/// Sends every message back and ends with trailers.
async fn grpc_echo() -> std::net::SocketAddr {
    app(|request: Request<Incoming>| async move {
        assert_eq!(request.version(), Version::HTTP_2);
        let timeout = request.headers().get("grpc-timeout").cloned();
        let body = request.into_body();
        let (sender, channel) = channel();
        TaskTracker::new().spawn(send_back(body, sender));
        let mut answer = Response::new(channel);
        answer.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        if let Some(timeout) = timeout {
            answer.headers_mut().insert("x-timeout", timeout);
        }
        answer
    })
    .await
}

async fn send_back(mut body: Incoming, sender: Frames) {
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.into_data().ok().filter(|data| !data.is_empty()) {
            drop(sender.send(Ok(Frame::data(data))).await);
        }
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    drop(sender.send(Ok(Frame::trailers(trailers))).await);
}

fn call<B>(body: B) -> Request<B> {
    Request::post("http://product/shop.Product/Get")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap()
}

#[tokio::test]
async fn messages_pass_both_ways_while_the_stream_is_open() {
    let pair = pair_with(grpc_echo().await, grpc);
    let mut sender = connect(pair.to).await;
    let (messages, body) = channel();
    let answer = timeout(PATIENCE, sender.send_request(call(body))).await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let mut answer = answer.into_body();
    for n in 0..20_u8 {
        messages.send(Ok(Frame::data(Bytes::from(vec![n; 100])))).await.unwrap();
        let frame = timeout(PATIENCE, answer.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), vec![n; 100]);
    }
    drop(messages);
    let frame = timeout(PATIENCE, answer.frame()).await.unwrap().unwrap().unwrap();
    assert_eq!(frame.into_trailers().unwrap()["grpc-status"], "0");
}

#[tokio::test]
async fn a_grpc_deadline_is_passed_on_and_kept() {
    let silent = app(|_: Request<Incoming>| std::future::pending::<Response<Full<Bytes>>>()).await;
    let pair = pair_with(silent, grpc);
    let mut sender = connect(pair.to).await;
    let mut request = call(Full::<Bytes>::default());
    request.headers_mut().insert("grpc-timeout", HeaderValue::from_static("100m"));
    let answer = timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
    assert_eq!(answer.headers()["grpc-status"], "4");
    assert_eq!(answer.headers()["x-weft-reason"], "timeout");

    let pair = pair_with(grpc_echo().await, grpc);
    let mut sender = connect(pair.to).await;
    let mut request = call(Full::<Bytes>::default());
    request.headers_mut().insert("grpc-timeout", HeaderValue::from_static("5S"));
    let answer = timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
    let left: u64 =
        answer.headers()["x-timeout"].to_str().unwrap().strip_suffix('m').unwrap().parse().unwrap();
    assert!((1..=5000).contains(&left), "{left}");
}

#[tokio::test]
async fn a_refusal_of_grpc_is_a_grpc_status() {
    let pair = pair_with(grpc_echo().await, |inbound, destination| {
        grpc(inbound, destination);
        inbound.authorization = Some(v1::Authorization::default());
    });
    let mut sender = connect(pair.to).await;
    let answer = sender.send_request(call(Full::<Bytes>::default())).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["grpc-status"], "7");
    assert_eq!(answer.headers()["x-weft-reason"], "forbidden");
}

#[tokio::test]
async fn http2_reaches_an_application_that_speaks_http1() {
    let pair = pair_with(echo().await, |_, _| {});
    let mut sender = connect(pair.to).await;
    let request = Request::post("http://product/a?b")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(Full::new(Bytes::from("hello")))
        .unwrap();
    let answer = timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    let (_, body) = read(answer).await;
    assert!(body.starts_with("POST /a?b HTTP/1.1\n"), "{body}");
    assert!(body.contains("host: product\n") && body.contains("cookie: a=1; b=2\n"), "{body}");
    assert!(body.ends_with("\n\nhello"), "{body}");
}

#[tokio::test]
async fn many_streams_at_once_all_get_their_own_answer() {
    let pair = pair_with(grpc_echo().await, grpc);
    let sender = connect(pair.to).await;
    let calls = (0..300_u32).map(|n| {
        let mut sender = sender.clone();
        async move {
            let body: UnsyncBoxBody<Bytes, Infallible> = UnsyncBoxBody::new(StreamBody::new(
                tokio_stream::once(Ok(Frame::data(Bytes::from(n.to_string())))),
            ));
            let answer = sender.send_request(call(body)).await.unwrap();
            assert_eq!(read(answer).await.1, n.to_string());
        }
    });
    timeout(PATIENCE, futures_util::future::join_all(calls)).await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_request_everywhere() {
    let silent = app(|_: Request<Incoming>| std::future::pending::<Response<Full<Bytes>>>()).await;
    let pair = pair_with(silent, grpc);
    let stream = TcpStream::connect(pair.to).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.unwrap();
    let tasks = TaskTracker::new();
    let connection = tasks.spawn(async move { drop(connection.await) });
    let mut request = call(Full::default());
    request.headers_mut().insert("host", HeaderValue::from_static("product"));
    let answer = tasks.spawn(async move { drop(sender.send_request(request).await) });
    let active = || pair.server.shared.active_requests.load(Ordering::Relaxed);
    until(|| active() == 1).await;
    answer.abort();
    connection.abort();
    until(|| active() == 0).await;
}
