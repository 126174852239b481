//! Where requests come in from hyper and answers go back to it, connections that stop being HTTP included: `WebSockets`,
//! other upgrades, CONNECT. Once both sides have switched, bytes go both ways until either end closes; a new
//! configuration leaves them alone, and a drain gives them time up to the deadline.

use std::rc::Rc;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tracing::debug;

use super::body::{Body, End};
use super::headers::{put_upgrade, strip_answer};
use crate::cx::RequestCx;
use crate::net::pump::pump;
use crate::net::worker::Worker;
use crate::upstream::pool::Connection;

/// A request taken over from hyper.
#[derive(Debug)]
pub struct Inward {
    /// Its head.
    pub parts: Parts,
    /// The client's side of an upgrade, should it come to one.
    pub client: Option<OnUpgrade>,
    /// The protocol it wants to switch to.
    pub upgrade: Option<HeaderValue>,
}

/// Takes a request over from hyper.
pub fn take(request: Request<Incoming>) -> (Inward, Incoming) {
    let (mut parts, body) = request.into_parts();
    let client = parts.extensions.remove::<OnUpgrade>();
    (Inward { parts, client, upgrade: None }, body)
}

/// What becomes of a request's connection if the upstream agrees to switch protocols.
#[derive(Debug)]
pub struct Switch {
    /// The client's side.
    pub client: Option<OnUpgrade>,
    /// Closed after this long without a byte; none: never.
    pub idle: Option<Duration>,
}

/// Brings an upstream's answer into the form to pass on: joins both sides where it switches protocols, else sees to it
/// that the connection goes back to its pool after the body. `held` is dropped when all is over.
pub fn conclude<H: 'static>(
    worker: &Rc<Worker>,
    cx: &RequestCx,
    switch: Switch,
    mut answer: Response<Incoming>,
    (connection, held): (Connection, H),
) -> Response<Body> {
    if is_switch(&cx.method, answer.status()) {
        return join(worker, switch, answer, held);
    }
    strip_answer(answer.headers_mut());
    *answer.version_mut() = cx.version;
    answer.map(|body| {
        Body::incoming(body).on_end(move |end| {
            if matches!(end, End::Complete(_)) {
                connection.give_back();
            }
            drop(held);
        })
    })
}

/// Whether an answer with this status ends HTTP on its connection.
pub fn is_switch(method: &Method, status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || (*method == Method::CONNECT && status.is_success())
}

fn join<H: 'static>(
    worker: &Rc<Worker>,
    Switch { client, idle }: Switch,
    mut answer: Response<Incoming>,
    held: H,
) -> Response<Body> {
    let upstream = hyper::upgrade::on(&mut answer);
    let (mut parts, _) = answer.into_parts();
    if let Some(protocol) = strip_answer(&mut parts.headers) {
        put_upgrade(&mut parts.headers, protocol);
    }
    let open = worker.shared.connection_opened();
    worker.tasks.spawn_local(async move {
        let (_open, _held) = (open, held);
        let Some(client) = client else { return };
        let (client, upstream) = match tokio::try_join!(client, upstream) {
            Ok(both) => both,
            Err(error) => return debug!(%error, "upgrade failed"),
        };
        pump(TokioIo::new(client), TokioIo::new(upstream), idle, |_| ()).await;
    });
    Response::from_parts(parts, Body::empty())
}
