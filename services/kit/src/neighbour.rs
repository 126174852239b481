//! A neighbour of the service: the connection that its calls go over, and what the last of them says about it.
//!
//! Health is read off the calls that are made anyway. A question that asks for nothing but health would go through the
//! proxies between like any call: while the neighbour starts its failures open the caller's circuit breaker for it, and
//! later its successes hide from the breaker that nothing else works.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use tokio::time::Instant;
use tonic::{
    Code, Status,
    body::Body,
    transport::{Channel, Endpoint, Error},
};
use tower::Service;

use crate::{client, errors::chain};

/// How long a call says something about the neighbour.
const FRESH: Duration = Duration::from_secs(30);

/// A neighbour, to be given to its generated client, and to the health of the service.
#[derive(Clone, Debug)]
pub struct Neighbour {
    name: &'static str,
    channel: Channel,
    last: Arc<Mutex<Option<Call>>>,
}

/// A call that ended.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    ended: Instant,
    /// From when it was sent until its answer began.
    pub(crate) took: Duration,
    /// Why nobody was there; none when somebody answered, whatever the answer was.
    pub(crate) absence: Option<String>,
}

impl Neighbour {
    /// The neighbour of that name; connected when first called, and again when the connection was lost.
    pub fn new(name: &'static str, endpoint: &Endpoint) -> Self {
        Self { name, channel: client::channel(endpoint), last: Arc::default() }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The last call, if it was lately.
    pub(crate) fn last_call(&self) -> Option<Call> {
        self.last().clone().filter(|call| call.ended.elapsed() < FRESH)
    }

    fn last(&self) -> MutexGuard<'_, Option<Call>> {
        // One assignment is all that is done under the lock.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service<Request<Body>> for Neighbour {
    type Response = Response<Body>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Response<Body>, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (answer, this, sent) = (self.channel.call(request), self.clone(), Instant::now());
        Box::pin(async move {
            let answer = answer.await;
            let ended = Instant::now();
            let absence = absence(answer.as_ref());
            *this.last() = Some(Call { ended, took: ended.saturating_duration_since(sent), absence });
            answer
        })
    }
}

/// Why nobody was there, if nobody was. Proxies and servers that refuse a call say so at the head of their answer.
fn absence(answer: Result<&Response<Body>, &Error>) -> Option<String> {
    match answer {
        Err(error) => Some(chain(error)),
        Ok(answer) => match Status::from_header_map(answer.headers()) {
            Some(status) => is_absence(status.code()).then(|| status.message().to_owned()),
            None => answer.status().is_server_error().then(|| answer.status().to_string()),
        },
    }
}

fn is_absence(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answers_at_all_is_there() {
        for (status, grpc, expect) in [
            (200, None, true),
            (200, Some("0"), true),
            (200, Some("5"), true),
            (200, Some("13"), true),
            (200, Some("14"), false),
            (200, Some("4"), false),
            (503, None, false),
            (404, None, true),
        ] {
            let mut answer = Response::new(Body::empty());
            *answer.status_mut() = status.try_into().unwrap();
            if let Some(code) = grpc {
                answer.headers_mut().insert("grpc-status", code.parse().unwrap());
            }
            assert_eq!(absence(Ok(&answer)).is_none(), expect, "{status} {grpc:?}");
        }
    }
}
