//! Serves one accepted connection with hyper, HTTP/1.1 or HTTP/2, until it ends or shutdown lets it end. Strict limits
//! on heads stand here. Leaves out what happens to a request: that is the handler's.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::header::UPGRADE;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::body::Body;
use super::exec::LocalExec;
use super::headers::put_close;
use super::received::{OnSwitch, Received};
use super::upgrade::{Inward, is_switch};
use crate::net::connections::{Registered, Verdict};
use crate::net::scan::{Heads, Scanned};
use crate::net::stream::Stream;
use crate::net::worker::Worker;
use crate::reject::Reason;
use crate::telemetry::Direction;

/// Bytes of a head, names and values; more is refused with 431.
pub const MAX_HEAD: usize = 64 * 1024;
/// Header lines of a head; more is refused with 431.
const MAX_HEADERS: usize = 100;
/// Streams of one accepted HTTP/2 connection.
const MAX_STREAMS: u32 = 1024;
const STREAM_WINDOW: u32 = 512 * 1024;
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long a silent client is waited for where the protocol is not declared.
const DETECT: Duration = Duration::from_secs(1);
/// For the first byte of a connection that is accepted during a drain.
const GRACE: Duration = Duration::from_secs(1);

/// What the handler is told about the head it was given.
#[derive(Clone, Copy, Debug, Default)]
pub struct Head {
    /// It breaks RFC 9112 where hyper is lenient: refuse and close.
    pub bad: bool,
    /// Shutdown has begun: answer and close.
    pub closing: bool,
}

/// Which HTTP a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// HTTP/1.1.
    One,
    /// HTTP/2.
    Two,
}

/// Serves a connection with this handler.
pub async fn serve<H, F>(worker: &Rc<Worker>, stream: Stream, http: Http, handler: H) -> hyper::Result<()>
where
    H: Fn((Inward, Received), Head) -> F,
    F: Future<Output = Response<Body>> + 'static,
{
    match http {
        Http::One => one(worker, stream, handler).await,
        Http::Two => two(worker, stream, handler).await,
    }
}

async fn one<H, F>(worker: &Rc<Worker>, stream: Stream, handler: H) -> hyper::Result<()>
where
    H: Fn((Inward, Received), Head) -> F,
    F: Future<Output = Response<Body>>,
{
    let heads = Arc::new(Heads::default());
    let registered = worker.connections.register(Some(Arc::clone(&heads)));
    let number = std::cell::Cell::new(0);
    let service = service_fn(|request: Request<Incoming>| {
        number.set(number.get() + 1);
        let head = Head { bad: heads.is_bad(number.get()), closing: registered.is_finishing() };
        let busy = registered.busy();
        let may_switch = may_switch(&request);
        let answer = handler(take(request), head);
        async move {
            let mut answer = answer.await;
            drop(busy);
            if may_switch.is_some_and(|method| !is_switch(&method, answer.status())) {
                put_close(answer.headers_mut());
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let io = TokioIo::new(Scanned::new(stream, Arc::clone(&heads)));
    let connection = http1::Builder::new()
        .auto_date_header(false)
        .half_close(false)
        .max_buf_size(MAX_HEAD)
        .max_header_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(io, service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let mut told = false;
    poll_fn(|cx| {
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(ended);
        }
        match registered.verdict(cx.waker()) {
            Verdict::None | Verdict::Last => return Poll::Pending,
            Verdict::Finish if told => return Poll::Pending,
            Verdict::Finish => connection.as_mut().graceful_shutdown(),
            Verdict::Close => return Poll::Ready(Ok(())),
        }
        told = true;
        connection.as_mut().poll(cx)
    })
    .await
}

/// Takes a request over from hyper.
fn take(request: Request<Incoming>) -> (Inward, Received) {
    let (mut parts, body) = request.into_parts();
    let client = parts.extensions.remove::<OnUpgrade>().map(OnSwitch::Hyper);
    (Inward::new(parts, client), Received::Hyper(body))
}

/// The method, where the scanner stopped looking after this head, since what follows may be no HTTP. Where it is HTTP after
/// all, the connection must not go on without the scanner.
fn may_switch(request: &Request<Incoming>) -> Option<Method> {
    let mut protocols = request.headers().get_all(UPGRADE).iter();
    let may = *request.method() == Method::CONNECT
        || protocols.any(|name| !name.as_bytes().eq_ignore_ascii_case(b"h2c"));
    may.then(|| request.method().clone())
}

async fn two<H, F>(worker: &Rc<Worker>, stream: Stream, handler: H) -> hyper::Result<()>
where
    H: Fn((Inward, Received), Head) -> F,
    F: Future<Output = Response<Body>> + 'static,
{
    let registered = worker.connections.register(None);
    let service = service_fn(|request: Request<Incoming>| {
        let answer = handler(take(request), Head::default());
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http2::Builder::new(LocalExec(worker.tasks.clone()))
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PING_EVERY)
        .serve_connection(TokioIo::new(Scanned::unwatched(stream)), service);
    let mut connection = pin!(connection);
    let mut told = false;
    poll_fn(|cx| {
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(ended);
        }
        if told || verdict_is_none(&registered, cx) {
            return Poll::Pending;
        }
        told = true;
        connection.as_mut().graceful_shutdown();
        connection.as_mut().poll(cx)
    })
    .await
}

fn verdict_is_none(registered: &Registered, cx: &std::task::Context<'_>) -> bool {
    registered.verdict(cx.waker()) == Verdict::None
}

/// As [`sniff`], but given up when nothing comes for long, or not soon enough once shutdown has begun.
pub async fn begin(worker: &Worker, stream: &TcpStream) -> Option<Http> {
    let draining = worker.tasks.draining();
    let too_late = async {
        draining.cancelled().await;
        sleep(GRACE).await;
    };
    tokio::select! {
        found = timeout(worker.shared.settings.client_idle_timeout, sniff(stream)) => found.ok()?.ok(),
        () = too_late => None,
    }
}

/// Which HTTP a plain connection speaks, by its first bytes: HTTP/2 with prior knowledge begins with `PRI`, which no
/// HTTP/1.1 method does. Nothing is consumed.
pub async fn sniff(stream: &TcpStream) -> std::io::Result<Http> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";
    let mut first = [0; 16];
    loop {
        let count = stream.peek(&mut first).await?;
        let seen = first.get(..count).unwrap_or_default();
        if count == 0 || !PREFACE.starts_with(seen) {
            return Ok(Http::One);
        }
        if count == PREFACE.len() {
            return Ok(Http::Two);
        }
        // A preface in pieces: peeking again at once would spin, so let others run.
        sleep(Duration::from_millis(1)).await;
    }
}

/// Whether an undeclared connection begins like HTTP; not, where it waits for the server to speak first.
pub async fn is_http(stream: &TcpStream) -> bool {
    let mut first = [0; 24];
    let Ok(Ok(count)) = timeout(DETECT, stream.peek(&mut first)).await else { return false };
    let seen = first.get(..count).unwrap_or_default();
    let method = seen.split(|&byte| byte == b' ').next().unwrap_or_default();
    !method.is_empty() && method.len() < seen.len() && method.iter().all(u8::is_ascii_uppercase)
}

/// Counts what hyper refused by itself: malformed and oversized heads.
pub fn count_failure(worker: &Worker, direction: Direction, error: &hyper::Error) {
    let metrics = &worker.shared.telemetry.metrics;
    if error.is_parse_too_large() {
        metrics.rejected(direction, Reason::HeadersTooLarge);
    } else if error.is_parse() {
        metrics.rejected(direction, Reason::BadRequest);
    }
    debug!(%error, direction = direction.label(), "connection ended");
}
