//! Serves one accepted connection, HTTP/1.1 with our codec or HTTP/2 with hyper, until it ends or shutdown lets it end.
//! Limits on heads stand here. Leaves out what happens to a request: that is the handler's.

use std::future::{Future, ready};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::Either;
use http::{Response, StatusCode, Version};
use http_body::Body as _;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tracing::debug;
use weft_http1::Refusal;
use weft_http1::head::MAX_HEADERS;
use weft_http1::server::Incoming;

use super::answer::{Asker, refuse};
use super::body::Body;
use super::early::Early;
use super::enter::{Refused, is_grpc};
use super::h2;
use super::limited::{Limited, Pace};
use super::received::{OnSwitch, Received};
use super::upgrade::Inward;
use crate::cx::ConnCx;
use crate::net::stream::Stream;
use crate::net::worker::Worker;
use crate::operator::causes;
use crate::reject::{Reason, Reject};
use crate::settings::{ClientLimits, Settings};
use crate::telemetry::{self, Direction};

/// Bytes of a head, names and values; more is refused with 431.
pub const MAX_HEAD: usize = 64 * 1024;
/// Limits of HTTP/1.1 towards upstreams; of a client's, what settings do not say.
pub const HTTP1: weft_http1::Config = weft_http1::Config {
    max_line: 16 << 10,
    max_head: MAX_HEAD,
    max_headers: MAX_HEADERS,
    max_unread: 64 << 10,
    linger: Duration::from_secs(1),
    continue_after: Duration::from_secs(1),
};
/// How long a silent client is waited for where the protocol is not declared.
const DETECT: Duration = Duration::from_secs(1);
/// How HTTP/2 with prior knowledge begins (RFC 9113, section 3.4): as no request of HTTP/1.1 does.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";
/// For the first byte of a connection that is accepted during a drain.
const GRACE: Duration = Duration::from_secs(1);

/// Which HTTP a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// HTTP/1.1.
    One,
    /// HTTP/2.
    Two,
}

/// A connection that is served.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The path of its requests.
    pub direction: Direction,
    /// Where it came from.
    pub conn: Arc<ConnCx>,
}

/// Serves a connection with this handler.
pub async fn serve<H, F>(worker: &Rc<Worker>, accepted: Accepted, stream: Stream, http: Http, handler: H)
where
    H: Fn((Inward, Received)) -> F,
    F: Future<Output = Response<Body>> + 'static,
{
    let direction = accepted.direction;
    let ended = match http {
        // On the heap, once per connection: raw ones, which share their task's shape with these, need not be as large.
        Http::One => Box::pin(one(worker, &accepted, stream, handler)).await.map_err(|error| causes(&error)),
        Http::Two => h2::serve(worker, &accepted, stream, handler).await.map_err(|error| causes(&error)),
    };
    if let Err(error) = ended {
        debug!(error, direction = direction.label(), "connection ended");
    }
}

async fn one<H, F>(
    worker: &Rc<Worker>,
    accepted: &Accepted,
    stream: Stream,
    handler: H,
) -> Result<(), weft_http1::Error>
where
    H: Fn((Inward, Received)) -> F,
    F: Future<Output = Response<Body>>,
{
    let registered = worker.connections.register(true);
    let config = config(&worker.shared.settings.limits);
    weft_http1::server::serve(stream, &config, registered.control(), |incoming| match incoming {
        Ok(incoming) => Either::Left(handler(limited(&worker.shared.settings, enter(incoming)))),
        Err(refusal) => {
            let reject = refused(refusal);
            debug!(%refusal, direction = accepted.direction.label(), "refused");
            let asker = Asker { id: "", grpc: false, version: Version::HTTP_11 };
            let answer = refuse(&reject, asker);
            accepted.refused(worker, Version::HTTP_11, Some(answer.status()), reject);
            Either::Right(ready(answer))
        }
    })
    .await
}

impl Accepted {
    /// Counts and logs what was no request.
    pub(super) fn refused(
        &self,
        worker: &Worker,
        version: Version,
        status: Option<StatusCode>,
        reject: Reject,
    ) {
        let Self { direction, ref conn } = *self;
        let refused = telemetry::Refused { direction, conn, version, status, reject };
        worker.shared.telemetry.refused(refused);
    }
}

/// Takes a request over from the codec.
fn enter(incoming: Incoming<Stream>) -> (Inward, Received) {
    let (parts, body) = incoming.request.into_parts();
    let client = incoming.connection.on_upgrade().map(OnSwitch::Http1);
    let early = Some(Early::Http1(incoming.connection));
    (Inward::new(parts, client, early), Received::Http1(body))
}

/// Limits of a client of HTTP/1.1.
fn config(limits: &ClientLimits) -> weft_http1::Config {
    weft_http1::Config {
        max_line: limits.max_request_line,
        max_head: limits.max_header_bytes as usize,
        max_headers: limits.max_headers.min(MAX_HEADERS),
        ..HTTP1
    }
}

/// Holds a request's body to the limits that clients have. One whose length is known to be too much is refused before
/// anything of it is read; one of unknown length may be a stream, which may be slow. That it does not stand still the
/// codec of HTTP/1.1 sees to.
pub fn limited(settings: &Settings, (mut request, body): (Inward, Received)) -> (Inward, Received) {
    let ClientLimits { max_body_bytes, min_body_rate, .. } = settings.limits;
    if body.is_end_stream() {
        return (request, body);
    }
    let most = if max_body_bytes == 0 { u64::MAX } else { max_body_bytes };
    let length = body.size_hint().exact();
    if length.is_some_and(|length| length > most) {
        request.parts.extensions.insert(Refused(Reason::BodyTooLarge));
    }
    let pace = match length {
        Some(length) => (min_body_rate > 0).then(|| Pace::new(settings, length)),
        None if request.parts.version != Version::HTTP_2 || is_grpc(&request.parts.headers) => None,
        None => Pace::of_stream(settings),
    };
    if pace.is_none() && max_body_bytes == 0 {
        return (request, body);
    }
    (request, Received::Limited(Box::new(Limited::new(body, most, pace))))
}

/// What a head that is no request is refused with.
fn refused(refusal: Refusal) -> Reject {
    let reason = match refusal {
        Refusal::Malformed(_) | Refusal::UnknownCoding => Reason::BadRequest,
        Refusal::LineTooLong | Refusal::HeadTooLarge | Refusal::TooManyHeaders => Reason::HeadersTooLarge,
        Refusal::TimedOut => Reason::RequestTimeout,
    };
    Reject::new(reason).with_status(refusal.status()).because(refusal.to_string())
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
    let mut first = [0; PREFACE.len()];
    loop {
        let count = stream.peek(&mut first).await?;
        if let Some(found) = version_of(first.get(..count).unwrap_or_default()) {
            return Ok(found);
        }
        // A preface in pieces: peeking again at once would spin, so let others run.
        sleep(Duration::from_millis(1)).await;
    }
}

/// What a connection speaks that begins with these bytes; none where more of them must be seen. An empty beginning is one
/// of a connection that has ended.
pub fn version_of(first: &[u8]) -> Option<Http> {
    if first.is_empty() || !PREFACE.starts_with(first.get(..PREFACE.len()).unwrap_or(first)) {
        Some(Http::One)
    } else {
        (first.len() >= PREFACE.len()).then_some(Http::Two)
    }
}

/// Whether an undeclared connection begins like HTTP; not, where it waits for the server to speak first.
pub async fn is_http(stream: &TcpStream) -> bool {
    let mut first = [0; 24];
    let Ok(Ok(count)) = timeout(DETECT, stream.peek(&mut first)).await else { return false };
    begins_like_http(first.get(..count).unwrap_or_default())
}

/// Whether these are a method and a space, as a request begins.
pub fn begins_like_http(first: &[u8]) -> bool {
    let method = first.split(|&byte| byte == b' ').next().unwrap_or_default();
    !method.is_empty() && method.len() < first.len() && method.iter().all(u8::is_ascii_uppercase)
}
