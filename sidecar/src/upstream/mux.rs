//! Connections to other proxies by `weft/1` (`transport/README.md`), kept per worker: one per endpoint as a rule, for every
//! request and raw connection to it. Remembers which endpoints speak only HTTP, as their last handshake said.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Version;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::debug;
use weft_api::spiffe::SpiffeId;
use weft_http1::head::Asked;
use weft_transport::{Client, Code, Refused, StreamError};

use super::connect::{ConnectError, Target};
use super::pool::{SendError, SendFailure, Sent, fault_of, is_right};
use crate::http::body::Body;
use crate::http::early::{Early, tell};
use crate::http::exec::LocalExec;
use crate::http::received::Received;
use crate::net::stream::Stream;
use crate::net::worker::Worker;

/// Sweeps, two a second, for which it is remembered that an endpoint nobody calls speaks only HTTP.
const REMEMBERED: u32 = 600;

/// All such connections of a worker.
#[derive(Debug, Default)]
pub struct Muxes {
    places: RefCell<HashMap<Key, Rc<Place>>>,
}

/// Address and name of the destination.
type Key = (SocketAddr, Arc<str>);

/// Connections to one endpoint.
#[derive(Debug, Default)]
pub struct Place {
    open: RefCell<Vec<Rc<Mux>>>,
    /// Its last handshake chose HTTP.
    http: Cell<bool>,
    /// Sweeps since somebody looked.
    unseen: Cell<u32>,
    making: Cell<bool>,
    made: Notify,
    /// Why the last one could not be made.
    failed: RefCell<Option<Arc<ConnectError>>>,
}

/// One connection, shared by many requests.
#[derive(Debug)]
pub struct Mux {
    client: Client<LocalExec>,
    peer: SpiffeId,
    used: Cell<bool>,
    unused_since: Cell<Instant>,
    idle_timeout: Duration,
}

/// What there is for an endpoint.
#[derive(Debug)]
pub enum Found {
    /// A connection that takes another stream.
    Open(Rc<Mux>),
    /// It speaks only HTTP.
    Http,
    /// Nothing yet.
    Nothing(Rc<Place>),
}

/// What a request that found nothing does.
#[derive(Debug)]
pub enum Turn<'a> {
    /// Uses this.
    Open(Rc<Mux>),
    /// Speaks HTTP.
    Http,
    /// Looks again.
    Again,
    /// Makes a connection, while others wait.
    Make(Making<'a>),
}

/// Lets the others look again, however connecting ended.
#[derive(Debug)]
pub struct Making<'a>(&'a Place);

impl Muxes {
    /// What there is for this target.
    pub fn find(&self, target: Target<'_>) -> Found {
        let place = self.place(target);
        place.unseen.set(0);
        match place.open(target) {
            Some(mux) => Found::Open(mux),
            None if place.http.get() => Found::Http,
            None => Found::Nothing(place),
        }
    }

    /// Names of destinations that there is a connection for.
    pub fn called(&self) -> HashSet<Arc<str>> {
        let places = self.places.borrow();
        let open = places.iter().filter(|(_, place)| !place.open.borrow().is_empty());
        open.map(|((_, name), _)| Arc::clone(name)).collect()
    }

    /// Begins `weft/1` on a new connection.
    pub fn add(&self, worker: &Rc<Worker>, target: Target<'_>, stream: Stream, peer: SpiffeId) -> Rc<Mux> {
        let spawn = LocalExec(worker.tasks.clone());
        let limits = worker.shared.settings.peer_limits();
        let (client, connection) = weft_transport::connect(stream, limits, spawn);
        worker.tasks.spawn_local(async move {
            if let Err(error) = connection.await {
                debug!(%error, "connection to a proxy ended");
            }
        });
        let (used, unused_since) = (Cell::new(true), Cell::new(Instant::now()));
        let idle_timeout = target.idle_timeout;
        let mux = Rc::new(Mux { client, peer, used, unused_since, idle_timeout });
        let place = self.place(target);
        place.http.set(false);
        place.open.borrow_mut().push(Rc::clone(&mux));
        mux
    }

    /// The last handshake with this target chose HTTP.
    pub fn is_http(&self, target: Target<'_>) {
        self.place(target).http.set(true);
    }

    /// Closes what has been unused for too long.
    pub fn sweep(&self, now: Instant) {
        self.places.borrow_mut().retain(|_, place| {
            place.open.borrow_mut().retain(|mux| mux.is_wanted(now));
            let unseen = place.unseen.get();
            place.unseen.set(unseen + 1);
            let remembered = place.http.get() && unseen < REMEMBERED;
            remembered || !place.open.borrow().is_empty() || Rc::strong_count(place) > 1
        });
    }

    /// Closes everything unused.
    pub fn clear(&self) {
        for place in self.places.borrow().values() {
            place.open.borrow_mut().clear();
        }
    }

    fn place(&self, target: Target<'_>) -> Rc<Place> {
        let key = (target.address, Arc::clone(target.name));
        Rc::clone(self.places.borrow_mut().entry(key).or_default())
    }
}

impl Place {
    /// A connection to the right peer that takes another stream.
    fn open(&self, target: Target<'_>) -> Option<Rc<Mux>> {
        let mut open = self.open.borrow_mut();
        let takes = |mux: &Rc<Mux>| is_right(Some(&mux.peer), target) && mux.client.has_room();
        if let Some(mux) = open.iter().find(|mux| takes(mux)) {
            mux.used.set(true);
            return Some(Rc::clone(mux));
        }
        open.retain(|mux| mux.client.is_usable() && is_right(Some(&mux.peer), target));
        None
    }

    /// Waits for the connection that is being made; without one it is this request's turn to make it. Those who waited
    /// share how it ended, else each of them would wait for a dead endpoint in turn.
    pub async fn turn(&self, target: Target<'_>) -> Result<Turn<'_>, ConnectError> {
        if let Some(mux) = self.open(target) {
            return Ok(Turn::Open(mux));
        }
        if self.http.get() {
            return Ok(Turn::Http);
        }
        if !self.making.replace(true) {
            *self.failed.borrow_mut() = None;
            return Ok(Turn::Make(Making(self)));
        }
        self.made.notified().await;
        match &*self.failed.borrow() {
            Some(error) => Err(ConnectError::Shared(Arc::clone(error))),
            None => Ok(Turn::Again),
        }
    }
}

impl Making<'_> {
    /// Tells those who wait why there is no connection.
    pub fn failed(&self, error: ConnectError) -> ConnectError {
        let error = Arc::new(error);
        *self.0.failed.borrow_mut() = Some(Arc::clone(&error));
        ConnectError::Shared(error)
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        self.0.making.set(false);
        self.0.made.notify_waiters();
    }
}

impl Mux {
    /// Sends a request and waits for the head of its answer.
    pub async fn send(
        &self,
        (asked, version): (Asked<'_>, Version),
        body: Body,
        early: Option<&Early>,
    ) -> Sent {
        let Asked { method, uri, headers, upgrade } = asked;
        let asked = weft_transport::head::Asked { method, uri, version, headers, upgrade };
        let sent = self.client.send(asked, body, |status, headers| tell(early, status, headers)).await;
        sent.map(|answer| answer.map(Received::Weft)).map_err(SendError::from)
    }

    /// Opens a stream of raw bytes.
    pub fn open_tcp(&self) -> Result<Stream, ConnectError> {
        let opened = self.client.open_tcp();
        opened.map(|tunnel| Stream::Carried(Box::new(tunnel))).map_err(|refused| {
            ConnectError::Tcp(std::io::Error::new(std::io::ErrorKind::ConnectionAborted, refused))
        })
    }

    fn is_wanted(&self, now: Instant) -> bool {
        if self.used.replace(false) || self.client.streams() > 0 {
            self.unused_since.set(now);
        }
        self.client.is_usable() && self.unused_since.get() + self.idle_timeout > now
    }
}

impl From<weft_transport::SendError<Body>> for SendError {
    fn from(error: weft_transport::SendError<Body>) -> Self {
        let weft_transport::SendError { reason, unsent, unprocessed, cause } = error;
        let is_head = matches!(reason, Refused::Head(_));
        let failure = match reason {
            Refused::Head(_) => SendFailure::Request,
            _ if unprocessed => SendFailure::Unprocessed,
            Refused::Body => cause.as_deref().and_then(fault_of).unwrap_or(SendFailure::Request),
            Refused::Full | Refused::Stream(StreamError::Closed(_)) => SendFailure::Closed,
            Refused::Stream(StreamError::Failed(Code::Malformed | Code::HeadTooLarge)) => {
                SendFailure::Protocol
            }
            Refused::Stream(_) => SendFailure::Broken,
        };
        // A head that cannot be sent can be sent on no connection.
        Self { unsent: unsent.filter(|_| !is_head), failure, cause: reason.to_string() }
    }
}
