//! Serves one accepted connection of HTTP/2 with hyper. Besides limits of its own hyper has, this ends what it would bear:
//! floods of frames, and answers whose client opens no window for them, stream by stream. Extended CONNECT (RFC 8441)
//! enters as the upgrade of HTTP/1.1 that it stands for.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderValue, Method, Request, Response, Version};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Instant, Sleep, sleep};
use weft_http1::Order;

use super::body::Body;
use super::received::{OnSwitch, PolledFrame, Received};
use super::serve::{Accepted, limited};
use super::upgrade::Inward;
use crate::drain::Tasks;
use crate::net::flood::Guarded;
use crate::net::stream::Stream;
use crate::net::worker::Worker;
use crate::operator::causes;
use crate::reject::{Reason, Reject};
use crate::settings::ClientLimits;
use crate::telemetry::Direction;

const STREAM_WINDOW: u32 = 512 * 1024;
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
/// Of an answer, kept for a client that opens no window.
const SEND_BUFFER: usize = 64 * 1024;
const PING_EVERY: Duration = Duration::from_secs(30);

/// Serves a connection with this handler.
pub async fn serve<H, F>(
    worker: &Rc<Worker>,
    accepted: &Accepted,
    stream: Stream,
    handler: H,
) -> hyper::Result<()>
where
    H: Fn((Inward, Received)) -> F,
    F: Future<Output = Response<Body>> + 'static,
{
    let registered = worker.connections.register(false);
    let limits = &worker.shared.settings.limits;
    let flooded = Rc::new(Cell::new(false));
    let streams = Streams::new(worker, accepted.direction);
    let service = service_fn(|request: Request<Incoming>| {
        // On the heap: hyper and the runtime would move all of it, several times.
        let answer = Box::pin(handler(limited(&worker.shared.settings, take(request))));
        let stall = streams.next();
        async move {
            let answer = answer.await;
            Ok::<_, Infallible>(answer.map(|body| Taken { body, stall }))
        }
    });
    let io = Guarded::new(stream, limits.max_control_frames, Rc::clone(&flooded));
    let connection = builder(&streams, limits).serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    let mut told = false;
    let ended = poll_fn(|cx| {
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(ended);
        }
        if told || registered.control().poll_order(cx.waker()) == Order::Continue {
            return Poll::Pending;
        }
        told = true;
        connection.as_mut().graceful_shutdown();
        connection.as_mut().poll(cx)
    })
    .await;
    if let Err(error) = &ended
        && let Some(reason) = judged(error, flooded.get())
    {
        accepted.refused(worker, Version::HTTP_2, None, Reject::new(reason).because(causes(error)));
    }
    ended
}

fn builder(streams: &Streams, limits: &ClientLimits) -> http2::Builder<Streams> {
    let mut builder = http2::Builder::new(streams.clone());
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(limits.max_header_bytes)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_EVERY)
        .enable_connect_protocol();
    builder
}

/// What a connection that ended in an error is counted as; nothing, where it only broke.
fn judged(error: &hyper::Error, flooded: bool) -> Option<Reason> {
    let reason = std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<h2::Error>())
        .and_then(h2::Error::reason);
    match reason {
        _ if flooded => Some(Reason::Flood),
        Some(h2::Reason::ENHANCE_YOUR_CALM) => Some(Reason::Flood),
        Some(h2::Reason::NO_ERROR | h2::Reason::CANCEL) | None => None,
        Some(_) => Some(Reason::BadRequest),
    }
}

/// Takes a request over from hyper. Extended CONNECT becomes the GET with `Upgrade` that it was made to replace (RFC 8441,
/// section 5), so that every step and every hop behind sees an upgrade as it always was.
fn take(request: Request<Incoming>) -> (Inward, Received) {
    let (mut parts, body) = request.into_parts();
    let client = parts.extensions.remove::<OnUpgrade>().map(OnSwitch::Hyper);
    if let Some(protocol) = parts.extensions.remove::<Protocol>()
        && parts.method == Method::CONNECT
        && let Ok(protocol) = HeaderValue::from_bytes(protocol.as_ref())
    {
        parts.method = Method::GET;
        parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(UPGRADE, protocol);
        let key = STANDARD.encode(rand::random::<[u8; 16]>());
        if let Ok(key) = HeaderValue::try_from(key) {
            parts.headers.insert(SEC_WEBSOCKET_KEY, key);
        }
    }
    (Inward::new(parts, client, None), Received::Hyper(body))
}

/// Whether the client owes it to an answer to take it.
#[derive(Debug, Default)]
struct Stall {
    /// It was given a piece and has not asked for the next.
    owing: Cell<bool>,
    /// Pieces it was given.
    given: Cell<u64>,
}

impl Stall {
    fn polled(&self, polled: &PolledFrame) {
        let given = matches!(polled, Poll::Ready(Some(Ok(frame))) if Frame::is_data(frame));
        self.owing.set(given);
        self.given.set(self.given.get() + u64::from(given));
    }

    /// Which piece is not taken yet.
    fn owed(&self) -> Option<u64> {
        self.owing.get().then(|| self.given.get())
    }
}

/// An answer's body that knows when its client does not take it.
struct Taken {
    body: Body,
    stall: Rc<Stall>,
}

impl http_body::Body for Taken {
    type Data = bytes::Bytes;
    type Error = super::received::BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        this.stall.polled(&polled);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Runs the streams of one connection on the current thread, and gives up those whose client stalls.
#[derive(Clone)]
struct Streams {
    worker: Rc<Worker>,
    direction: Direction,
    tasks: Tasks,
    /// Of the request that was just handed over and whose stream is run next.
    next: Rc<RefCell<Option<Rc<Stall>>>>,
}

impl Streams {
    fn new(worker: &Rc<Worker>, direction: Direction) -> Self {
        Self { worker: Rc::clone(worker), direction, tasks: worker.tasks.clone(), next: Rc::default() }
    }

    fn next(&self) -> Rc<Stall> {
        let stall = Rc::new(Stall::default());
        *self.next.borrow_mut() = Some(Rc::clone(&stall));
        stall
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, stream: F) {
        let Some(stall) = self.next.borrow_mut().take() else { return self.tasks.spawn_local(stream) };
        let (worker, direction) = (Rc::clone(&self.worker), self.direction);
        self.tasks.spawn_local(async move {
            let limit = worker.shared.settings.client_body_timeout;
            if !unless_stalled(stream, &stall, limit).await {
                worker.shared.telemetry.metrics.rejected(direction, Reason::ClientStalled);
            }
        });
    }
}

/// Runs a stream; false, where it was given up because its client took nothing for so long. Dropping it resets it.
async fn unless_stalled(stream: impl Future<Output = ()>, stall: &Stall, limit: Duration) -> bool {
    let mut stream = pin!(stream);
    let mut late: Option<Pin<Box<Sleep>>> = None;
    let mut owed = None;
    poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        if std::mem::replace(&mut owed, stall.owed()) != owed && owed.is_some() {
            match &mut late {
                Some(late) => late.as_mut().reset(Instant::now() + limit),
                None => late = Some(Box::pin(sleep(limit))),
            }
        }
        match &mut late {
            Some(late) if owed.is_some() => late.as_mut().poll(cx).map(|()| false),
            _ => Poll::Pending,
        }
    })
    .await
}
