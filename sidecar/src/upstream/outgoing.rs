//! A request on its way out: its head, kept so that it can be sent again, and its body in one of three states. Brings it
//! into the form the next hop speaks and sends it on one connection.
//!
//! The keep-alive race: a pooled connection may turn out to have been closed by the other end while the request was under
//! way. Where nothing of the request was written, or the other end says that it did not process it, it is sent again on a
//! new connection, whatever it is, if its body is still there; a small one of known length is kept for that. Where
//! something may have been written it is sent again only if its method is idempotent (RFC 9110, section 9.2.2) and its
//! body empty or still whole; a POST is not.

use std::rc::Rc;

use http::header::{COOKIE, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Response, Uri, Version};
use http_body::Body as _;
use tokio::time::Instant;
use weft_http1::head::Asked;

use super::connect::{ConnectError, Speaks, Target};
use super::pool::{Connection, SendError, SendFailure};
use crate::http::body::Body;
use crate::http::early::Early;
use crate::http::received::Received;
use crate::http::replay::{self, Keeper};
use crate::http::upgrade::Inward;
use crate::net::worker::Worker;
use crate::policy::outcome::Outcome;
use crate::reject::{Reason, Reject};

/// How often a request that was not taken is sent on another connection.
const MAX_MOVES: u32 = 3;

/// A request on its way out.
#[derive(Debug)]
pub struct Outgoing {
    method: Method,
    uri: Uri,
    /// What the client spoke.
    version: Version,
    headers: HeaderMap,
    body: Source,
    /// The protocol to switch to.
    upgrade: Option<HeaderValue>,
    /// Who is told of answers before the final one.
    early: Option<Early>,
    /// When it was last handed to a connection.
    sent: Option<Instant>,
}

#[derive(Debug)]
enum Source {
    Empty,
    /// Can be sent once.
    Once(Received),
    /// Can be sent again as long as it is whole.
    Kept(Keeper),
    Gone,
}

/// An attempt without an answer.
#[derive(Debug)]
pub struct Failure {
    /// What retries, breaker and outlier detection judge.
    pub outcome: Outcome,
    /// What the client is told if nothing follows.
    pub reject: Reject,
}

impl Outgoing {
    /// Takes a request that has entered; keeps its body where `keep` says that it may be sent again, and one that is small
    /// for the connection that turns out to be closed.
    pub fn new(request: Inward, body: Received, keep: bool) -> Self {
        let Inward { parts, upgrade, early, .. } = request;
        let small = body.size_hint().exact().is_some_and(|size| size <= replay::LIMIT as u64);
        let body = match (body.is_end_stream(), keep || small) {
            (true, _) => Source::Empty,
            (false, true) => Source::Kept(Keeper::new(body)),
            (false, false) => Source::Once(body),
        };
        let Parts { method, uri, version, headers, .. } = parts;
        Self { method, uri, version, headers, body, upgrade, early, sent: None }
    }

    /// A copy to be sent elsewhere; none for an upgrade, and where a body has not been read whole or was not kept.
    pub fn copy(&self) -> Option<Self> {
        let body = match &self.body {
            _ if self.is_upgrade() => return None,
            Source::Empty => Source::Empty,
            Source::Kept(keeper) => Source::Kept(keeper.complete()?),
            Source::Once(_) | Source::Gone => return None,
        };
        Some(Self { body, early: None, ..self.twin() })
    }

    /// Whether its head is all of it.
    pub fn is_bare(&self) -> bool {
        matches!(self.body, Source::Empty) && !self.is_upgrade()
    }

    /// The same request without its body, to be sent beside this one.
    #[must_use]
    pub fn twin(&self) -> Self {
        Self {
            method: self.method.clone(),
            uri: self.uri.clone(),
            version: self.version,
            headers: self.headers.clone(),
            body: Source::Empty,
            upgrade: None,
            early: self.early.clone(),
            sent: None,
        }
    }

    /// Its headers, for edits between attempts.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// Its headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// When it was last handed to a connection that stood; what came before was connecting.
    pub fn sent(&self) -> Option<Instant> {
        self.sent
    }

    /// Whether it wants to switch protocols.
    pub fn is_upgrade(&self) -> bool {
        self.upgrade.is_some() || self.method == Method::CONNECT
    }

    /// Whether its body can be sent (again) from its start.
    pub fn is_whole(&self) -> bool {
        match &self.body {
            Source::Empty | Source::Once(_) => true,
            Source::Kept(keeper) => keeper.is_whole(),
            Source::Gone => false,
        }
    }

    /// Sends it on one connection to this target and waits for the head of the answer.
    pub async fn send(
        &mut self,
        worker: &Rc<Worker>,
        target: Target<'_>,
        speaks: Speaks,
    ) -> Result<(Response<Received>, Connection), Failure> {
        self.sent = None;
        if speaks != Speaks::H2 {
            join_cookies(&mut self.headers);
        }
        let connected = worker.pool.get(worker, target, speaks).await;
        let mut connection = connected.map_err(|error| unconnected(&error))?;
        let mut moves = 0;
        loop {
            let Some(body) = self.body() else { return Err(reset("the body is gone")) };
            self.sent = Some(Instant::now());
            let asked = (self.asked(), self.version);
            let error = match connection.send(worker, asked, body, self.early.as_ref()).await {
                Ok(response) => return Ok((response, connection)),
                Err(error) => error,
            };
            let (reused, shared) = (connection.was_reused(), connection.is_shared());
            drop(connection);
            moves += 1;
            if !(self.take_back(error).map_err(broken)? && reused && moves <= MAX_MOVES) {
                return Err(reset("closed before the request was sent"));
            }
            let connected = if shared {
                worker.pool.get(worker, target, speaks).await
            } else {
                worker.pool.fresh(worker, target).await
            };
            connection = connected.map_err(|error| unconnected(&error))?;
        }
    }

    /// Whether it can be sent again on a new connection after this error; the error where it must not be.
    fn take_back(&mut self, mut error: SendError) -> Result<bool, SendError> {
        if let Some(unsent) = error.unsent.take() {
            if let (Source::Gone, Some(body)) = (&self.body, unsent.into_received()) {
                self.body = Source::Once(body);
            }
            return Ok(self.is_whole());
        }
        if error.failure == SendFailure::Unprocessed {
            return Ok(self.is_whole());
        }
        let closed = error.failure == SendFailure::Closed;
        if closed && self.method.is_idempotent() && self.is_whole() { Ok(true) } else { Err(error) }
    }

    fn body(&mut self) -> Option<Body> {
        Some(match std::mem::replace(&mut self.body, Source::Gone) {
            Source::Empty => {
                self.body = Source::Empty;
                Body::empty()
            }
            Source::Once(body) => Body::received(body),
            Source::Kept(keeper) if keeper.is_whole() => {
                let replay = keeper.replay();
                self.body = Source::Kept(keeper);
                Body::replay(replay)
            }
            Source::Kept(_) | Source::Gone => return None,
        })
    }

    const fn asked(&self) -> Asked<'_> {
        let Self { method, uri, headers, upgrade, .. } = self;
        Asked { method, uri, headers, upgrade: upgrade.as_ref() }
    }
}

/// HTTP/1.1 has one `Cookie` line (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, whole);
    }
}

fn unconnected(error: &ConnectError) -> Failure {
    Failure { outcome: Outcome::ConnectFailed, reject: error.into() }
}

fn reset(why: &'static str) -> Failure {
    Failure { outcome: Outcome::Reset, reject: Reject::new(Reason::UpstreamReset).because(why) }
}

fn broken(error: SendError) -> Failure {
    let reason = match error.failure {
        SendFailure::Protocol => Reason::UpstreamProtocol,
        SendFailure::Request => Reason::BadRequest,
        SendFailure::RequestTimeout => Reason::RequestTimeout,
        SendFailure::RequestTooLarge => Reason::BodyTooLarge,
        SendFailure::Closed | SendFailure::Unprocessed | SendFailure::Broken => Reason::UpstreamReset,
    };
    Failure { outcome: Outcome::Reset, reject: Reject::new(reason).because(error.cause) }
}
