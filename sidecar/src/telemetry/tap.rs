//! Taps: a live sample of finished requests for whoever watches at the admin port. Off unless somebody does, and then
//! bounded: few taps at a time, each for a limited time and number of requests, with a short queue that drops and counts
//! what it cannot take. What is shown is a line of the access log: no query, no body, no header.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body::Frame;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep};

use crate::policy::pattern::TextPattern;
use crate::telemetry::{Direction, Request, access_log};

/// Taps at a time.
const MAX_TAPS: usize = 4;
/// Requests that wait for whoever watches, per tap.
const QUEUE: usize = 256;
const SECONDS: u64 = 60;
const MAX_SECONDS: u64 = 3600;
const REQUESTS: usize = 1000;
const MAX_REQUESTS: usize = 1_000_000;

/// All taps of a proxy.
#[derive(Debug, Default)]
pub struct Taps {
    /// How many there are, so that without one a request costs a look here.
    count: AtomicUsize,
    list: Mutex<Vec<Arc<Tap>>>,
}

#[derive(Debug)]
struct Tap {
    filter: Filter,
    /// Requests that matched.
    matched: AtomicU64,
    dropped: AtomicU64,
    queue: mpsc::Sender<Arc<Request>>,
}

/// Which requests are shown, and how many.
#[derive(Clone, Debug)]
pub struct Filter {
    direction: Option<Direction>,
    method: Option<Method>,
    path: Option<TextPattern>,
    host: Option<Box<str>>,
    status: Option<Status>,
    destination: Option<Box<str>>,
    peer: Option<TextPattern>,
    reason: Option<Box<str>>,
    /// Of those that match, one in so many.
    every: u64,
    max: usize,
    time: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Status {
    One(StatusCode),
    /// 1 to 5.
    Class(u16),
}

/// Why there is no tap.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TapError {
    /// A parameter that is not known, or a value that it cannot have.
    #[error("{name}: `{value}` cannot be used; {remedy}")]
    Parameter {
        /// As it stands in the query.
        name: Box<str>,
        /// What stands there.
        value: Box<str>,
        /// What to write instead.
        remedy: &'static str,
    },
    /// Too many watch already.
    #[error("{MAX_TAPS} taps are open already; end one of them")]
    TooMany,
}

impl Taps {
    /// Opens a tap. Dropping the stream ends it.
    pub fn open(self: &Arc<Self>, filter: Filter) -> Result<Stream, TapError> {
        let (queue, requests) = mpsc::channel(QUEUE);
        let (time, left) = (filter.time, filter.max);
        let tap = Arc::new(Tap { filter, matched: AtomicU64::new(0), dropped: AtomicU64::new(0), queue });
        let mut list = self.list();
        if list.len() >= MAX_TAPS {
            return Err(TapError::TooMany);
        }
        list.push(Arc::clone(&tap));
        self.count.store(list.len(), Ordering::Relaxed);
        let until = Box::pin(sleep(time));
        Ok(Stream { taps: Arc::clone(self), tap, requests, until, left, told: 0 })
    }

    /// Whether anybody may want to see this request.
    pub(super) fn are_open(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Shows a request to those who want to see it.
    pub(super) fn offer(&self, request: &Arc<Request>) {
        for tap in self.list().iter().filter(|tap| tap.filter.matches(request)) {
            let before = tap.matched.fetch_add(1, Ordering::Relaxed);
            if before.is_multiple_of(tap.filter.every) && tap.queue.try_send(Arc::clone(request)).is_err() {
                tap.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Tap>>> {
        // A list that was being changed is still a list.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Filter {
    /// Reads the query of the admin page: `path=/orders*&status=5xx&max=10`. Nothing is decoded but what names and paths
    /// need.
    pub fn parse(query: &str) -> Result<Self, TapError> {
        let mut filter = Self {
            direction: None,
            method: None,
            path: None,
            host: None,
            status: None,
            destination: None,
            peer: None,
            reason: None,
            every: 1,
            max: REQUESTS,
            time: Duration::from_secs(SECONDS),
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value);
            filter.take(name, &value).map_err(|remedy| TapError::Parameter {
                name: name.into(),
                value: value.as_str().into(),
                remedy,
            })?;
        }
        Ok(filter)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        match name {
            "direction" => self.direction = Some(direction(value)?),
            "method" => self.method = Some(value.parse().map_err(|_| "write a method, like GET")?),
            "path" => self.path = Some(TextPattern::new(value)),
            "host" => self.host = Some(value.to_ascii_lowercase().into()),
            "status" => {
                self.status = Some(status(value).ok_or("write a status like 503, or a class like 5xx")?);
            }
            "destination" => self.destination = Some(value.into()),
            "peer" => self.peer = Some(TextPattern::new(value)),
            "reason" => self.reason = Some(value.into()),
            "every" => self.every = number(value, u64::MAX).ok_or("write a number from 1")?,
            "max" => {
                let max = number(value, MAX_REQUESTS as u64).and_then(|max| usize::try_from(max).ok());
                self.max = max.ok_or("write a number from 1 to 1000000")?;
            }
            "seconds" => {
                let seconds = number(value, MAX_SECONDS).ok_or("write a number from 1 to 3600")?;
                self.time = Duration::from_secs(seconds);
            }
            _ => {
                return Err(
                    "there are direction, method, path, host, status, destination, peer, reason, every, max, seconds",
                );
            }
        }
        Ok(())
    }

    fn matches(&self, request: &Request) -> bool {
        let Request { direction, cx, answer, .. } = request;
        let identity = || cx.conn.identity.as_ref().map(|identity| identity.as_str());
        self.direction.is_none_or(|wanted| wanted == *direction)
            && self.method.as_ref().is_none_or(|wanted| *wanted == cx.method)
            && self.path.as_ref().is_none_or(|wanted| wanted.matches(cx.path.as_str()))
            && self.host.as_ref().is_none_or(|wanted| *wanted == cx.host)
            && self.status.is_none_or(|wanted| wanted.is(answer.status))
            && self.destination.as_deref().is_none_or(|wanted| cx.destination.as_deref() == Some(wanted))
            && self.peer.as_ref().is_none_or(|wanted| identity().is_some_and(|peer| wanted.matches(peer)))
            && self.reason.as_deref().is_none_or(|wanted| {
                answer.reject.as_ref().is_some_and(|reject| reject.reason.label() == wanted)
            })
    }
}

impl Status {
    fn is(self, status: StatusCode) -> bool {
        match self {
            Self::One(one) => one == status,
            Self::Class(class) => status.as_u16() / 100 == class,
        }
    }
}

fn direction(text: &str) -> Result<Direction, &'static str> {
    let known = Direction::ALL.into_iter().find(|direction| direction.label() == text);
    known.ok_or("write inbound, outbound or gateway")
}

fn status(text: &str) -> Option<Status> {
    match text.strip_suffix("xx") {
        Some(class) => number(class, 5).and_then(|class| u16::try_from(class).ok()).map(Status::Class),
        None => text.parse().ok().map(Status::One),
    }
}

fn number(text: &str, most: u64) -> Option<u64> {
    text.parse().ok().filter(|number| (1..=most).contains(number))
}

/// `%2F` and the like (RFC 3986, section 2.1); what is not well-formed stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16).and_then(|d| u8::try_from(d).ok());
        if let (b'%', Some(high), Some(low)) = (first, digit(0), digit(1)) {
            bytes.push(high << 4 | low);
            rest = after.get(2..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The requests of one tap, a line of JSON each. Ends with its time, or after as many requests as were asked for.
#[derive(Debug)]
pub struct Stream {
    taps: Arc<Taps>,
    tap: Arc<Tap>,
    requests: mpsc::Receiver<Arc<Request>>,
    until: Pin<Box<Sleep>>,
    left: usize,
    /// Of those dropped, how many have been told of.
    told: u64,
}

impl Stream {
    /// The next line; none at the end.
    pub fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let dropped = self.tap.dropped.load(Ordering::Relaxed);
        if dropped > self.told {
            let line = format!("{{\"dropped\":{}}}\n", dropped - self.told);
            self.told = dropped;
            return Poll::Ready(Some(line.into()));
        }
        if let Poll::Ready(Some(request)) = self.requests.poll_recv(cx) {
            self.left -= 1;
            return Poll::Ready(Some(access_log::line_of(request)));
        }
        self.until.as_mut().poll(cx).map(|()| {
            self.left = 0;
            None
        })
    }

    /// When it ends by itself.
    pub fn deadline(&self) -> Instant {
        self.until.deadline()
    }
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.get_mut().poll_line(cx).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut list = self.taps.list();
        list.retain(|tap| !Arc::ptr_eq(tap, &self.tap));
        self.taps.count.store(list.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::policy::fixture;
    use crate::reject::{Reason, Reject};
    use crate::telemetry::Answer;

    fn request(path: &str, reject: Option<Reason>) -> Arc<Request> {
        let mut cx = fixture::request("GET", "order", path);
        cx.destination = Some("shop/order:http".into());
        let answer = Answer {
            status: reject.map_or(StatusCode::OK, Reason::status),
            grpc_status: None,
            reject: reject.map(Reject::new),
            duration: Duration::ZERO,
        };
        Arc::new(Request { direction: Direction::Outbound, cx, answer, ended: SystemTime::UNIX_EPOCH })
    }

    fn matches(query: &str) -> bool {
        Filter::parse(query).unwrap().matches(&request("/orders/1", Some(Reason::CircuitOpen)))
    }

    #[test]
    fn all_that_is_named_must_hold() {
        for query in [
            "",
            "path=/orders*",
            "path=%2Forders%2f1&method=GET",
            "status=503",
            "status=5xx&reason=circuit-open",
            "direction=outbound&host=ORDER",
            "destination=shop%2Forder:http",
            "peer=spiffe://cluster.local/ns/shop/*",
        ] {
            assert!(matches(query), "{query}");
        }
        for query in [
            "path=/orders",
            "method=POST",
            "status=4xx",
            "status=500",
            "reason=timeout",
            "direction=inbound",
            "host=product",
            "destination=shop/order",
            "peer=spiffe://cluster.local/ns/till/*",
            "path=/orders*&method=POST",
        ] {
            assert!(!matches(query), "{query}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_refused_by_name() {
        for query in
            ["paths=/x", "status=six", "status=9xx", "max=0", "seconds=7200", "direction=up", "every="]
        {
            let error = Filter::parse(query).unwrap_err().to_string();
            assert!(error.starts_with(query.split('=').next().unwrap()), "{error}");
        }
    }

    async fn line(stream: &mut Stream) -> Option<String> {
        let line = std::future::poll_fn(|cx| stream.poll_line(cx)).await;
        line.map(|line| String::from_utf8(line.to_vec()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_tap_shows_what_matches_until_its_number_or_time_is_over() {
        let taps = Arc::new(Taps::default());
        assert!(!taps.are_open());
        let mut stream = taps.open(Filter::parse("path=/orders*&max=2").unwrap()).unwrap();
        assert!(taps.are_open());
        for path in ["/products", "/orders/1", "/orders/2", "/orders/3"] {
            taps.offer(&request(path, None));
        }
        assert!(line(&mut stream).await.unwrap().contains("\"/orders/1\""));
        assert!(line(&mut stream).await.unwrap().contains("\"/orders/2\""));
        assert_eq!(line(&mut stream).await, None);
        drop(stream);
        assert!(!taps.are_open());
        let mut idle = taps.open(Filter::parse("seconds=5").unwrap()).unwrap();
        assert_eq!(line(&mut idle).await, None, "the clock runs on by itself");
    }

    #[tokio::test]
    async fn what_nobody_reads_is_dropped_and_told() {
        let taps = Arc::new(Taps::default());
        let mut stream = taps.open(Filter::parse("").unwrap()).unwrap();
        (0..QUEUE + 3).for_each(|_| taps.offer(&request("/", None)));
        assert_eq!(line(&mut stream).await.unwrap(), "{\"dropped\":3}\n");
        assert!(line(&mut stream).await.unwrap().contains("\"path\":\"/\""));
    }

    #[tokio::test]
    async fn one_in_so_many_is_shown() {
        let taps = Arc::new(Taps::default());
        let mut stream = taps.open(Filter::parse("every=3&max=2").unwrap()).unwrap();
        (0..6).for_each(|n| taps.offer(&request(&format!("/{n}"), None)));
        assert!(line(&mut stream).await.unwrap().contains("\"/0\""));
        assert!(line(&mut stream).await.unwrap().contains("\"/3\""));
        assert_eq!(line(&mut stream).await, None);
    }

    #[tokio::test]
    async fn there_are_only_so_many_taps() {
        let taps = Arc::new(Taps::default());
        let open = || taps.open(Filter::parse("").unwrap());
        let streams: Vec<_> = (0..MAX_TAPS).map(|_| open().unwrap()).collect();
        assert_eq!(open().unwrap_err(), TapError::TooMany);
        drop(streams);
        assert!(open().is_ok());
    }

    proptest::proptest! {
        #[test]
        fn any_query_is_taken_or_refused(query in ".{0,80}") {
            drop(Filter::parse(&query));
        }
    }
}
