//! Where answers go back to whoever asked, connections that stop being HTTP included: `WebSockets`, other upgrades, CONNECT. Once both sides have switched, bytes go both ways until either end closes; a new
//! configuration leaves them alone, and a drain gives them time up to the deadline.

use std::rc::Rc;
use std::time::Duration;

use http::header::SEC_WEBSOCKET_ACCEPT;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, Version};
use tracing::debug;

use super::body::{Body, End};
use super::early::Early;
use super::headers::{put_upgrade, strip_answer};
use super::received::{OnSwitch, Received};
use crate::cx::RequestCx;
use crate::net::pump::pump;
use crate::net::worker::Worker;
use crate::upstream::pool::Connection;

/// A request as it came in, without its body.
#[derive(Debug)]
pub struct Inward {
    /// Its head.
    pub parts: Parts,
    /// The client's side of an upgrade, should it come to one.
    pub client: Option<OnSwitch>,
    /// The protocol it wants to switch to.
    pub upgrade: Option<HeaderValue>,
    /// Who is told of answers before the final one.
    pub early: Option<Early>,
}

impl Inward {
    /// A head, the client's side of an upgrade, and whom to tell of answers before the final one.
    pub const fn new(parts: Parts, client: Option<OnSwitch>, early: Option<Early>) -> Self {
        Self { parts, client, upgrade: None, early }
    }
}

/// What becomes of a request's connection if the upstream agrees to switch protocols.
#[derive(Debug)]
pub struct Switch {
    /// The client's side.
    pub client: Option<OnSwitch>,
    /// Closed after this long without a byte; none: never.
    pub idle: Option<Duration>,
}

/// Brings an upstream's answer into the form to pass on: joins both sides where it switches protocols, else sees to it
/// that the connection goes back to its pool after the body. `held` is dropped when all is over.
pub fn conclude<H: 'static>(
    worker: &Rc<Worker>,
    cx: &RequestCx,
    switch: Switch,
    mut answer: Response<Received>,
    (connection, held): (Connection, H),
) -> Response<Body> {
    if is_switch(&cx.method, answer.status()) {
        let upstream = connection.switch(&mut answer);
        return join(worker, cx.version, (switch, answer), (upstream, held));
    }
    strip_answer(answer.headers_mut());
    *answer.version_mut() = cx.version;
    answer.map(|body| {
        Body::received(body).on_end(move |end| {
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
    version: Version,
    (Switch { client, idle }, answer): (Switch, Response<Received>),
    (upstream, held): (OnSwitch, H),
) -> Response<Body> {
    let (mut parts, _) = answer.into_parts();
    let protocol = strip_answer(&mut parts.headers);
    if version == Version::HTTP_2 {
        // There the stream is the tunnel, and 200 says that it stands (RFC 8441, section 5).
        parts.status = StatusCode::OK;
        parts.headers.remove(SEC_WEBSOCKET_ACCEPT);
    } else if let Some(protocol) = protocol {
        put_upgrade(&mut parts.headers, protocol);
    }
    parts.version = version;
    let open = worker.shared.connection_opened();
    worker.tasks.spawn_local(async move {
        let (_open, _held) = (open, held);
        let Some(client) = client else { return };
        let (client, upstream) = match tokio::try_join!(client, upstream) {
            Ok(both) => both,
            Err(error) => return debug!(%error, "upgrade failed"),
        };
        pump(client, upstream, idle, |_| ()).await;
    });
    Response::from_parts(parts, Body::empty())
}
