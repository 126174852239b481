//! What the tests share: a runtime for one thread, both sides over a pipe, handlers, and a peer that sends any frames.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::timeout;
use weft_transport::frame::{HEADER, Header, Hello, Kind, Next};
use weft_transport::head::Asked;
use weft_transport::{
    Body, Client, Closed, Code, Handler, Limits, SendError, ServerConnection, Spawn, StreamError, Tunnel,
    connect, head, serve,
};

/// For anything that must happen; the clock is paused, so it costs nothing.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// How a connection ends.
pub(crate) type Ended = JoinHandle<Result<(), Closed>>;
/// Where a test puts the pieces of a body.
pub(crate) type Pieces = tokio::sync::mpsc::UnboundedSender<Result<http_body::Frame<Bytes>, StreamError>>;
pub(crate) type Boxed = Pin<Box<dyn http_body::Body<Data = Bytes, Error = StreamError>>>;

/// Runs a test on one thread with a paused clock.
pub(crate) fn run<F: Future<Output = ()>>(test: F) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    LocalSet::new().block_on(&runtime, async { timeout(Duration::from_hours(1), test).await.unwrap() });
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Here;

impl Spawn for Here {
    fn spawn<F: Future<Output = ()> + 'static>(&self, task: F) {
        drop(spawn_local(task));
    }
}

/// What is to be answered.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Response<Boxed>>>>;

/// Answers with this function; raw bytes come back as they are.
pub(crate) struct Serve<F>(pub(crate) F);

impl<F: Fn(Request<Body>) -> Answer> Handler for Serve<F> {
    type Body = Boxed;

    fn request(&self, request: Request<Body>) -> impl Future<Output = Response<Boxed>> + 'static {
        (self.0)(request)
    }

    fn tcp(&self, stream: Tunnel) -> impl Future<Output = ()> + 'static {
        back(stream)
    }
}

async fn back(stream: Tunnel) {
    let (mut from, mut to) = tokio::io::split(stream);
    tokio::io::copy(&mut from, &mut to).await.ok();
    to.shutdown().await.ok();
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Boxed {
    Box::pin(Full::new(bytes.into()).map_err(|never| match never {}))
}

pub(crate) fn empty() -> Boxed {
    Box::pin(Empty::new().map_err(|never| match never {}))
}

/// Sends back what it gets, as it gets it.
pub(crate) fn echo(request: Request<Body>) -> Answer {
    Box::pin(async { Response::new(Box::pin(request.into_body()) as Boxed) })
}

/// Answers with as many bytes as the path says.
pub(crate) fn sized(request: Request<Body>) -> Answer {
    let size = request.uri().path().trim_start_matches('/').parse().unwrap_or(0);
    Box::pin(async move { Response::new(full(vec![b'x'; size])) })
}

pub(crate) fn get(path: &str) -> Request<Boxed> {
    request(Method::GET, path, empty())
}

pub(crate) fn post(path: &str, body: Boxed) -> Request<Boxed> {
    request(Method::POST, path, body)
}

pub(crate) fn request(method: Method, path: &str, body: Boxed) -> Request<Boxed> {
    Request::builder().method(method).uri(path).header("host", "a").body(body).unwrap()
}

/// A body whose pieces the test sends; dropped, it ends, and an error breaks it off.
pub(crate) fn channel() -> (Pieces, Boxed) {
    let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
    (sender, Box::pin(Channel(receiver)))
}

struct Channel(tokio::sync::mpsc::UnboundedReceiver<Result<http_body::Frame<Bytes>, StreamError>>);

impl http_body::Body for Channel {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, StreamError>>> {
        self.0.poll_recv(cx)
    }
}

pub(crate) async fn text(
    body: impl http_body::Body<Data = Bytes, Error = StreamError>,
) -> Result<Bytes, StreamError> {
    Ok(body.collect().await?.to_bytes())
}

/// Both sides over a pipe of this size.
pub(crate) fn pair<F>(limits: &Limits, size: usize, answer: F) -> (Client<Here>, Server)
where
    F: Fn(Request<Body>) -> Answer + Unpin + 'static,
{
    let (near, far) = duplex(size);
    let server = Server::start(far, limits, answer);
    (client(near, limits).0, server)
}

/// The asking side, and how its connection ends.
pub(crate) fn client(io: DuplexStream, limits: &Limits) -> (Client<Here>, Ended) {
    let (client, connection) = connect(io, limits.clone(), Here);
    (client, spawn_local(connection))
}

/// Asks with a whole request.
pub(crate) trait Ask {
    async fn ask(&self, request: Request<Boxed>) -> Result<Response<Body>, SendError<Boxed>>;
}

impl Ask for Client<Here> {
    async fn ask(&self, request: Request<Boxed>) -> Result<Response<Body>, SendError<Boxed>> {
        let (parts, body) = request.into_parts();
        self.send(asked(&parts), body, |_, _| ()).await
    }
}

pub(crate) fn asked(parts: &http::request::Parts) -> Asked<'_> {
    let http::request::Parts { method, uri, version, headers, .. } = parts;
    Asked { method, uri, version: *version, headers, upgrade: headers.get("upgrade") }
}

/// The answering side, running.
pub(crate) struct Server {
    drain: Rc<Cell<bool>>,
    waker: Rc<RefCell<Option<std::task::Waker>>>,
    pub(crate) ended: Ended,
}

impl Server {
    pub(crate) fn start<F>(io: DuplexStream, limits: &Limits, answer: F) -> Self
    where
        F: Fn(Request<Body>) -> Answer + Unpin + 'static,
    {
        let connection: ServerConnection<_, _, _> = serve(io, limits.clone(), Serve(answer), Here);
        let (drain, waker) = (Rc::new(Cell::new(false)), Rc::new(RefCell::new(None)));
        let (told, wake) = (Rc::clone(&drain), Rc::clone(&waker));
        let ended = spawn_local(async move {
            let mut connection = pin!(connection);
            poll_fn(|cx| {
                *wake.borrow_mut() = Some(cx.waker().clone());
                if told.get() {
                    connection.drain();
                }
                connection.as_mut().poll(cx)
            })
            .await
        });
        Self { drain, waker, ended }
    }

    pub(crate) fn drain(&self) {
        self.drain.set(true);
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    pub(crate) async fn end(self) -> Result<(), Closed> {
        timeout(SOON * 40, self.ended).await.unwrap().unwrap()
    }
}

/// A peer that sends what it is told, allowed or not.
pub(crate) struct Raw {
    pub(crate) io: DuplexStream,
    input: BytesMut,
}

impl Raw {
    pub(crate) fn new(io: DuplexStream) -> Self {
        Self { io, input: BytesMut::new() }
    }

    /// A raw client of a server with these limits, past both HELLOs.
    pub(crate) async fn of_server<F>(limits: &Limits, answer: F) -> (Self, Server)
    where
        F: Fn(Request<Body>) -> Answer + Unpin + 'static,
    {
        let (near, far) = duplex(1 << 20);
        let server = Server::start(far, limits, answer);
        let mut raw = Self::new(near);
        raw.hello().await;
        (raw, server)
    }

    /// A raw server of a client, past both HELLOs.
    pub(crate) async fn of_client(limits: &Limits) -> (Self, Client<Here>, Ended) {
        let (near, far) = duplex(1 << 20);
        let (client, ended) = client(far, limits);
        let mut raw = Self::new(near);
        raw.hello().await;
        (raw, client, ended)
    }

    async fn hello(&mut self) {
        let mut out = BytesMut::new();
        Hello::LEAST.encode(&mut out);
        self.bytes(&out).await;
        assert_eq!(self.next().await.unwrap().0.kind, Kind::Hello);
    }

    pub(crate) async fn bytes(&mut self, bytes: &[u8]) {
        // A peer that has closed is seen when reading.
        self.io.write_all(bytes).await.ok();
    }

    pub(crate) async fn frame(&mut self, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
        let length = u16::try_from(payload.len()).unwrap();
        let mut out = Header { length, kind, flags, stream }.encode().to_vec();
        out.extend_from_slice(payload);
        self.bytes(&out).await;
    }

    pub(crate) async fn number(&mut self, kind: Kind, stream: u32, number: u32) {
        self.frame(kind, 0, stream, &number.to_be_bytes()).await;
    }

    /// Opens a stream with this request.
    pub(crate) async fn ask(&mut self, stream: u32, flags: u8, request: Request<Boxed>) {
        let (parts, _) = request.into_parts();
        let mut out = BytesMut::new();
        head::put_request(&mut out, asked(&parts), asked(&parts).is_switch()).unwrap();
        self.frame(Kind::Head, flags, stream, &out).await;
    }

    /// Answers a stream.
    pub(crate) async fn answer(
        &mut self,
        stream: u32,
        flags: u8,
        status: u16,
        fields: &[(&'static str, &str)],
    ) {
        let mut headers = http::HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        let mut out = BytesMut::new();
        head::put_answer(&mut out, StatusCode::from_u16(status).unwrap(), &headers).unwrap();
        self.frame(Kind::Head, flags, stream, &out).await;
    }

    /// The next frame; none at the end.
    pub(crate) async fn next(&mut self) -> Option<(Header, Bytes)> {
        loop {
            if let Ok(Next::Frame(header)) = Header::decode(&self.input) {
                let whole = HEADER + usize::from(header.length);
                if self.input.len() >= whole {
                    return Some((header, self.input.split_to(whole).freeze().slice(HEADER..)));
                }
            }
            if timeout(SOON * 40, self.io.read_buf(&mut self.input)).await.unwrap().unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The next frame of this kind, whatever comes before.
    pub(crate) async fn until(&mut self, kind: Kind) -> (Header, Bytes) {
        loop {
            let (header, payload) = self.next().await.expect("the connection ended");
            if header.kind == kind {
                return (header, payload);
            }
        }
    }

    /// The code of the RESET of this stream.
    pub(crate) async fn reset_of(&mut self, stream: u32) -> Code {
        loop {
            let (header, payload) = self.until(Kind::Reset).await;
            if header.stream == stream {
                return code(&payload);
            }
        }
    }

    /// The code of the CLOSE that must come, and the end after it.
    pub(crate) async fn close(&mut self) -> Code {
        let (_, payload) = self.until(Kind::Close).await;
        assert!(self.next().await.is_none(), "nothing follows CLOSE");
        code(&payload)
    }
}

pub(crate) fn code(payload: &[u8]) -> Code {
    Code::from_number(u32::from_be_bytes(*payload.first_chunk().unwrap()))
}

/// Lets everything run that can run without time passing.
pub(crate) async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}
