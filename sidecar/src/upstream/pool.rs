//! Connections to endpoints and to the application, kept per worker: no locks, no hops between threads.
//! HTTP/1.1: a stack of unused connections per endpoint, last in first out, so that those not needed end by themselves.
//! HTTP/2: few connections per endpoint, shared by many streams, another one when all are full. Towards other proxies
//! `weft/1` carries everything (`mux.rs`), unless the handshake says that the peer does not speak it.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, Version};
use hyper::client::conn::{TrySendError, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::debug;
use weft_api::spiffe::SpiffeId;
use weft_http1::head::Asked;
use weft_http1::{Error, Refusal, client};

use super::connect::{ConnectError, Speaks, Target, connect};
use super::mux::{Found, Mux, Muxes, Place, Turn};
use crate::http::body::Body;
use crate::http::early::{Early, tell};
use crate::http::exec::LocalExec;
use crate::http::received::{BodyError, OnSwitch, Received};
use crate::http::serve::{HTTP1, MAX_HEAD};
use crate::net;
use crate::net::worker::Worker;
use crate::operator::causes;
use crate::settings::Transport;
use crate::tls::accept::Inside;

/// Unused HTTP/1.1 connections kept per endpoint and worker.
const MAX_IDLE: usize = 256;
/// Streams on one HTTP/2 connection before another one is made.
const STREAMS: u32 = 100;
const STREAM_WINDOW: u32 = 512 * 1024;
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
const PING_EVERY: Duration = Duration::from_secs(30);

pub(super) type Sent = Result<Response<Received>, SendError>;

/// All connections a worker has made.
#[derive(Debug, Default)]
pub struct Pool {
    slots: RefCell<HashMap<Key, Rc<Slot>>>,
    muxes: Muxes,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    address: SocketAddr,
    speaks: Speaks,
    secure: bool,
    name: Arc<str>,
}

/// Connections to one endpoint.
#[derive(Debug, Default)]
struct Slot {
    idle: RefCell<Vec<Idle>>,
    shared: RefCell<Vec<Rc<Shared>>>,
    connecting: Cell<bool>,
    connected: Notify,
}

#[derive(Debug)]
struct Idle {
    connection: client::Connection<net::stream::Stream>,
    peer: Option<Rc<SpiffeId>>,
    until: Instant,
}

#[derive(Debug)]
struct Shared {
    sender: http2::SendRequest<Body>,
    peer: Option<Rc<SpiffeId>>,
    streams: Cell<u32>,
    idle_since: Cell<Instant>,
    idle_timeout: Duration,
}

/// A connection to send one request on.
#[derive(Debug)]
pub enum Connection {
    /// HTTP/1.1, ours alone until it is given back.
    Http1(Lent),
    /// One stream of an HTTP/2 connection.
    H2(Stream),
    /// One stream of a `weft/1` connection.
    Weft(Rc<Mux>),
}

/// A request without an answer.
#[derive(Debug)]
pub struct SendError {
    /// The request's body, where nothing of the request was written.
    pub unsent: Option<Body>,
    /// What happened.
    pub failure: SendFailure,
    /// In words, for the log.
    pub cause: String,
}

/// How sending a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendFailure {
    /// The connection ended before any byte of an answer.
    Closed,
    /// The peer certainly did not process it.
    Unprocessed,
    /// What came was no answer.
    Protocol,
    /// The request's own body broke off.
    Request,
    /// The request's own body did not come in time.
    RequestTimeout,
    /// The request's own body is too large.
    RequestTooLarge,
    /// The connection broke in another way.
    Broken,
}

impl From<TrySendError<Request<Body>>> for SendError {
    fn from(mut error: TrySendError<Request<Body>>) -> Self {
        let unsent = error.take_message().map(Request::into_body);
        let error = error.into_error();
        let failure = match () {
            () if error.is_incomplete_message() || error.is_canceled() || error.is_closed() => {
                SendFailure::Closed
            }
            () if is_io(&error) => SendFailure::Closed,
            () if error.is_user() => {
                std::error::Error::source(&error).and_then(fault_of).unwrap_or(SendFailure::Request)
            }
            () if error.is_parse() => SendFailure::Protocol,
            () => SendFailure::Broken,
        };
        Self { unsent, failure, cause: causes(&error) }
    }
}

impl From<client::SendError<Body>> for SendError {
    fn from(error: client::SendError<Body>) -> Self {
        let client::SendError { unsent, unwritten, silent, error } = error;
        let failure = match &error {
            Error::Closed | Error::Io(_) if unwritten && silent => SendFailure::Unprocessed,
            Error::Closed | Error::Io(_) if silent => SendFailure::Closed,
            Error::Closed | Error::Io(_) | Error::Over => SendFailure::Broken,
            Error::Refused(_) => SendFailure::Protocol,
            Error::Body(cause) => fault_of(cause.as_ref()).unwrap_or(SendFailure::Request),
            Error::Length => SendFailure::Request,
        };
        Self { unsent, failure, cause: causes(&error) }
    }
}

/// Which limit the client's body broke.
pub(super) fn fault_of(cause: &(dyn std::error::Error + 'static)) -> Option<SendFailure> {
    match cause.downcast_ref::<BodyError>()? {
        BodyError::TooSlow | BodyError::Http1(Error::Refused(Refusal::TimedOut)) => {
            Some(SendFailure::RequestTimeout)
        }
        BodyError::TooLarge => Some(SendFailure::RequestTooLarge),
        BodyError::Hyper(_) | BodyError::Http1(_) | BodyError::Weft(_) => None,
    }
}

fn is_io(error: &hyper::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    source.is_some_and(|io| {
        matches!(io.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof)
    })
}

/// HTTP/2 names scheme and authority in the target instead of `Host` (RFC 9113, section 8.3.1).
fn as_h2(asked: Asked<'_>, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.version_mut() = Version::HTTP_2;
    *request.method_mut() = asked.method.clone();
    *request.headers_mut() = asked.headers.clone();
    let authority = request
        .headers_mut()
        .remove(HOST)
        .and_then(|host| Authority::try_from(host.as_bytes()).ok())
        .unwrap_or_else(|| Authority::from_static("localhost"));
    let mut parts = asked.uri.clone().into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority);
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    request
}

/// A borrowed HTTP/1.1 connection. Dropped without [`Lent::give_back`] it is closed.
#[derive(Debug)]
pub struct Lent {
    connection: client::Connection<net::stream::Stream>,
    peer: Option<Rc<SpiffeId>>,
    slot: Rc<Slot>,
    idle_timeout: Duration,
    /// Whether it has carried a request before: only then can it turn out to have been closed meanwhile.
    pub reused: bool,
}

/// One stream's share of an HTTP/2 connection.
#[derive(Debug)]
pub struct Stream {
    shared: Rc<Shared>,
}

impl Pool {
    /// A connection to this target, unused or new.
    pub async fn get(
        &self,
        worker: &Rc<Worker>,
        target: Target<'_>,
        speaks: Speaks,
    ) -> Result<Connection, ConnectError> {
        if target.peer.is_some() && worker.shared.settings.transport == Transport::Weft {
            match self.muxes.find(target) {
                Found::Open(mux) => return Ok(Connection::Weft(mux)),
                Found::Nothing(place) => return Box::pin(self.first(worker, &place, target, speaks)).await,
                Found::Http => {}
            }
        }
        self.by_http(worker, target, speaks).await
    }

    /// Names of destinations that proxies are connected for.
    pub fn called(&self) -> HashSet<Arc<str>> {
        self.muxes.called()
    }

    /// Connects to a proxy in advance, unless that has been done or it speaks only HTTP.
    pub async fn warm(&self, worker: &Rc<Worker>, target: Target<'_>) {
        if target.peer.is_none() || worker.shared.settings.transport != Transport::Weft {
            return;
        }
        let Found::Nothing(place) = self.muxes.find(target) else { return };
        match self.first(worker, &place, target, Speaks::Http1).await {
            Ok(connection) => connection.give_back(),
            Err(error) => debug!(%error, address = %target.address, "not connected to in advance"),
        }
    }

    /// A raw connection: one of its own, or where the peer is a proxy a stream of one.
    pub async fn tcp(
        &self,
        worker: &Rc<Worker>,
        target: Target<'_>,
    ) -> Result<net::stream::Stream, ConnectError> {
        if target.peer.is_some() && worker.shared.settings.transport == Transport::Weft {
            let place = match self.muxes.find(target) {
                Found::Open(mux) => return mux.open_tcp(),
                Found::Nothing(place) => Some(place),
                Found::Http => None,
            };
            if let Some(place) = place {
                return Box::pin(self.first_tcp(worker, &place, target)).await;
            }
        }
        connect(&worker.shared, target, Speaks::Tcp).await.map(|(stream, _)| stream)
    }

    /// As [`Pool::first`], for raw bytes.
    async fn first_tcp(
        &self,
        worker: &Rc<Worker>,
        place: &Rc<Place>,
        target: Target<'_>,
    ) -> Result<net::stream::Stream, ConnectError> {
        let making = loop {
            match place.turn(target).await? {
                Turn::Open(mux) => return mux.open_tcp(),
                Turn::Http => {
                    return connect(&worker.shared, target, Speaks::Tcp).await.map(|(stream, _)| stream);
                }
                Turn::Again => {}
                Turn::Make(making) => break making,
            }
        };
        let made = connect(&worker.shared, target, Speaks::Tcp).await;
        let (stream, peer) = made.map_err(|error| making.failed(error))?;
        if let (Inside::Weft, Some(peer)) = (Inside::of(stream.alpn()), peer) {
            return self.muxes.add(worker, target, stream, peer).open_tcp();
        }
        self.muxes.is_http(target);
        Ok(stream)
    }

    /// A new HTTP/1.1 connection, past the unused ones: after one of them turned out to be closed.
    pub async fn fresh(&self, worker: &Rc<Worker>, target: Target<'_>) -> Result<Connection, ConnectError> {
        let slot = self.slot(target, Speaks::Http1);
        Box::pin(self.make(worker, &slot, target, Speaks::Http1)).await
    }

    /// An unused connection of the kind that is asked for, or a new one.
    async fn by_http(
        &self,
        worker: &Rc<Worker>,
        target: Target<'_>,
        speaks: Speaks,
    ) -> Result<Connection, ConnectError> {
        let slot = self.slot(target, speaks);
        // Connecting is rare and its future large (TCP, TLS, handshake of HTTP/2): on the heap it leaves the future that
        // every request moves around small.
        match speaks {
            Speaks::H2 => match slot.open_stream(target) {
                Some(stream) => Ok(Connection::H2(stream)),
                None => Box::pin(self.shared(worker, &slot, target)).await,
            },
            Speaks::Http1 | Speaks::Tcp => match slot.unused(target) {
                Some(lent) => Ok(Connection::Http1(lent)),
                None => Box::pin(self.make(worker, &slot, target, speaks)).await,
            },
        }
    }

    /// The first connection to a proxy: what its handshake chooses is kept for those that follow, which wait meanwhile.
    async fn first(
        &self,
        worker: &Rc<Worker>,
        place: &Rc<Place>,
        target: Target<'_>,
        speaks: Speaks,
    ) -> Result<Connection, ConnectError> {
        let making = loop {
            match place.turn(target).await? {
                Turn::Open(mux) => return Ok(Connection::Weft(mux)),
                Turn::Http => return self.by_http(worker, target, speaks).await,
                Turn::Again => {}
                Turn::Make(making) => break making,
            }
        };
        let slot = self.slot(target, speaks);
        let made = self.make(worker, &slot, target, speaks).await;
        made.map_err(|error| making.failed(error))
    }

    /// A stream on an open connection, or on a new one; while one is being made others wait for it.
    async fn shared(
        &self,
        worker: &Rc<Worker>,
        slot: &Rc<Slot>,
        target: Target<'_>,
    ) -> Result<Connection, ConnectError> {
        loop {
            if let Some(stream) = slot.open_stream(target) {
                return Ok(Connection::H2(stream));
            }
            if !slot.connecting.replace(true) {
                break;
            }
            slot.connected.notified().await;
        }
        let _connecting = Connecting(slot);
        self.make(worker, slot, target, Speaks::H2).await
    }

    /// A new connection. What is spoken on it is what the handshake chose.
    async fn make(
        &self,
        worker: &Rc<Worker>,
        slot: &Rc<Slot>,
        target: Target<'_>,
        speaks: Speaks,
    ) -> Result<Connection, ConnectError> {
        let (stream, peer) = connect(&worker.shared, target, speaks).await?;
        let inside = stream.alpn().map(|name| Inside::of(Some(name)));
        match (inside, peer) {
            (Some(Inside::Weft), Some(peer)) => {
                Ok(Connection::Weft(self.muxes.add(worker, target, stream, peer)))
            }
            (Some(inside), peer) => {
                self.muxes.is_http(target);
                let speaks = if inside == Inside::H2 { Speaks::H2 } else { Speaks::Http1 };
                begin(worker, slot, target, (stream, peer, speaks)).await
            }
            (None, peer) => begin(worker, slot, target, (stream, peer, speaks)).await,
        }
    }

    fn slot(&self, target: Target<'_>, speaks: Speaks) -> Rc<Slot> {
        let key = Key {
            address: target.address,
            speaks,
            secure: target.peer.is_some(),
            name: Arc::clone(target.name),
        };
        Rc::clone(self.slots.borrow_mut().entry(key).or_default())
    }

    /// Closes what has been unused for too long.
    pub fn sweep(&self, now: Instant) {
        self.muxes.sweep(now);
        self.slots.borrow_mut().retain(|_, slot| {
            slot.idle.borrow_mut().retain(|idle| idle.until > now && idle.connection.is_open());
            slot.shared.borrow_mut().retain(|shared| shared.is_wanted(now));
            let empty = slot.idle.borrow().is_empty() && slot.shared.borrow().is_empty();
            !empty || Rc::strong_count(slot) > 1
        });
    }

    /// Closes everything unused.
    pub fn clear(&self) {
        self.muxes.clear();
        for slot in self.slots.borrow().values() {
            slot.idle.borrow_mut().clear();
            slot.shared.borrow_mut().clear();
        }
    }
}

impl Slot {
    /// The connection used last that is still open, ready and at the right peer.
    fn unused(self: &Rc<Self>, target: Target<'_>) -> Option<Lent> {
        let mut idle = self.idle.borrow_mut();
        loop {
            let Idle { connection, peer, .. } = idle.pop()?;
            if is_right(peer.as_deref(), target) && connection.is_open() {
                let slot = Rc::clone(self);
                return Some(Lent {
                    connection,
                    peer,
                    slot,
                    idle_timeout: target.idle_timeout,
                    reused: true,
                });
            }
        }
    }

    /// The HTTP/2 connection with the fewest streams that takes another one.
    fn open_stream(&self, target: Target<'_>) -> Option<Stream> {
        let mut all = self.shared.borrow_mut();
        all.retain(|shared| !shared.sender.is_closed() && is_right(shared.peer.as_deref(), target));
        let shared = all.iter().min_by_key(|shared| shared.streams.get())?;
        (shared.streams.get() < STREAMS).then(|| Stream::open(shared))
    }
}

pub(super) fn is_right(peer: Option<&SpiffeId>, target: Target<'_>) -> bool {
    match (peer, target.peer) {
        (Some(found), Some(wanted)) => wanted.identities.contains(found),
        (None, None) => true,
        _ => false,
    }
}

/// Begins HTTP on a new connection.
async fn begin(
    worker: &Rc<Worker>,
    slot: &Rc<Slot>,
    target: Target<'_>,
    (stream, peer, speaks): (net::stream::Stream, Option<SpiffeId>, Speaks),
) -> Result<Connection, ConnectError> {
    let (peer, idle_timeout) = (peer.map(Rc::new), target.idle_timeout);
    if speaks != Speaks::H2 {
        let connection = client::Connection::new(stream, HTTP1);
        let slot = Rc::clone(slot);
        return Ok(Connection::Http1(Lent { connection, peer, slot, idle_timeout, reused: false }));
    }
    let (sender, connection) = http2::Builder::new(LocalExec(worker.tasks.clone()))
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(MAX_HEAD).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_EVERY)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(ConnectError::Http)?;
    worker.tasks.spawn_local(async move {
        if let Err(error) = connection.await {
            debug!(%error, "upstream connection ended");
        }
    });
    let (streams, idle_since) = (Cell::new(0), Cell::new(Instant::now()));
    let shared = Rc::new(Shared { sender, peer, streams, idle_since, idle_timeout });
    slot.shared.borrow_mut().push(Rc::clone(&shared));
    Ok(Connection::H2(Stream::open(&shared)))
}

/// Lets the others try again, however connecting ended.
struct Connecting<'a>(&'a Slot);

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.connecting.set(false);
        self.0.connected.notify_waiters();
    }
}

impl Shared {
    fn is_wanted(&self, now: Instant) -> bool {
        let unused = self.streams.get() == 0 && self.idle_since.get() + self.idle_timeout <= now;
        !unused && !self.sender.is_closed()
    }
}

impl Stream {
    fn open(shared: &Rc<Shared>) -> Self {
        shared.streams.set(shared.streams.get() + 1);
        Self { shared: Rc::clone(shared) }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.streams.set(self.shared.streams.get().saturating_sub(1));
        if self.shared.streams.get() == 0 {
            self.shared.idle_since.set(Instant::now());
        }
    }
}

impl Connection {
    /// Sends a request; an error returns its body where nothing of it was written. `early` is told of answers before the
    /// final one.
    pub async fn send(
        &mut self,
        worker: &Worker,
        (asked, version): (Asked<'_>, Version),
        body: Body,
        early: Option<&Early>,
    ) -> Sent {
        match self {
            Self::Weft(mux) => mux.send((asked, version), body, early).await,
            Self::Http1(lent) => lent.send(worker, asked, body, early).await,
            Self::H2(stream) => {
                let mut sender = stream.shared.sender.clone();
                let sent = sender.try_send_request(as_h2(asked, body)).await;
                sent.map(|answer| answer.map(Received::Hyper)).map_err(SendError::from)
            }
        }
    }

    /// Whether it has carried a request before.
    pub fn was_reused(&self) -> bool {
        match self {
            Self::Http1(lent) => lent.reused,
            Self::H2(_) | Self::Weft(_) => true,
        }
    }

    /// Whether other requests share it.
    pub const fn is_shared(&self) -> bool {
        !matches!(self, Self::Http1(_))
    }

    /// Takes the connection over, after an answer that ends HTTP on it.
    pub fn switch(self, answer: &mut Response<Received>) -> OnSwitch {
        match self {
            Self::Http1(lent) => OnSwitch::Http1(lent.connection.into_upgrade()),
            Self::H2(_) => OnSwitch::Hyper(hyper::upgrade::on(answer)),
            Self::Weft(_) => {
                let ended = Received::Weft(weft_transport::Body::default());
                let Received::Weft(body) = std::mem::replace(answer.body_mut(), ended) else {
                    return OnSwitch::Switched(None);
                };
                OnSwitch::Switched(body.into_tunnel())
            }
        }
    }

    /// After the answer has passed whole: the connection may be used again.
    pub fn give_back(self) {
        if let Self::Http1(lent) = self {
            lent.give_back();
        }
    }
}

impl Lent {
    async fn send(&mut self, worker: &Worker, asked: Asked<'_>, body: Body, early: Option<&Early>) -> Sent {
        let told = |status, headers| tell(early, status, headers);
        let answer = self.connection.send(asked, body, told).await?;
        if let Some(upload) = answer.upload {
            worker.tasks.spawn_local(upload);
        }
        Ok(answer.response.map(Received::Http1))
    }

    fn give_back(self) {
        if !self.connection.is_idle() {
            return;
        }
        let mut idle = self.slot.idle.borrow_mut();
        if idle.len() < MAX_IDLE {
            let until = Instant::now() + self.idle_timeout;
            idle.push(Idle { connection: self.connection, peer: self.peer, until });
        }
    }
}
