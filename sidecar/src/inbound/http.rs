//! The inbound path of a request: the order of the steps, and nothing else.

use std::rc::Rc;

use http::{Request, Response};
use hyper::body::Incoming;

use super::{Peer, app};
use crate::config::snapshot::InboundConfig;
use crate::cx::RequestCx;
use crate::http::body::Body;
use crate::http::enter::{Entered, enter};
use crate::http::exchange::Exchange;
use crate::http::serve::Head;
use crate::http::upgrade::{Inward, take};
use crate::net::worker::Worker;
use crate::reject::{Reason, Reject};
use crate::telemetry::Direction;

/// Serves one request of a peer.
pub async fn handle(
    worker: Rc<Worker>,
    peer: Rc<Peer>,
    request: Request<Incoming>,
    head: Head,
) -> Response<Body> {
    let config = worker.shared.config.load_full();
    let (mut request, body) = take(request);
    let Entered { cx, upgrade, refused } =
        enter(Direction::Inbound, &peer.conn, &worker.shared.telemetry, &mut request.parts, head);
    request.upgrade = upgrade;
    let mut exchange = Exchange::begin(&worker, Direction::Inbound, &peer.metrics, cx, head.closing);
    let answer = match (refused, &config.inbound) {
        (Some(reject), _) => Err(reject),
        (None, None) => Err(Reason::NotReady.into()),
        (None, Some(inbound)) => steps(&worker, inbound, &peer, exchange.cx(), (request, body)).await,
    };
    exchange.finish(answer)
}

async fn steps(
    worker: &Rc<Worker>,
    inbound: &InboundConfig,
    peer: &Peer,
    cx: &mut RequestCx,
    (request, body): (Inward, Incoming),
) -> Result<Response<Body>, Reject> {
    authenticated(peer)?;
    let slot = inbound.limits.request()?;
    app::send(worker, &peer.port, cx, (request, body), slot).await
}

/// Plain text where mutual TLS is required.
fn authenticated(peer: &Peer) -> Result<(), Reject> {
    if peer.refused { Err(Reason::PeerUnauthenticated.into()) } else { Ok(()) }
}
