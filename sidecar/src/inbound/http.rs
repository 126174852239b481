//! The inbound path of a request: the order of the steps, and nothing else.

use std::rc::Rc;

use http::Response;

use super::{Peer, app, checks};
use crate::config::snapshot::{InboundConfig, Snapshot};
use crate::cx::RequestCx;
use crate::http::body::Body;
use crate::http::enter::{Entered, behind, enter};
use crate::http::exchange::Exchange;
use crate::http::received::Received;
use crate::http::upgrade::Inward;
use crate::net::worker::Worker;
use crate::reject::{Reason, Reject};
use crate::telemetry::Direction;

/// Serves one request of a peer.
pub async fn handle(
    worker: Rc<Worker>,
    peer: Rc<Peer>,
    (mut request, body): (Inward, Received),
) -> Response<Body> {
    let config = worker.shared.config.load_full();
    let Entered { mut cx, upgrade, refused } =
        enter(Direction::Inbound, &peer.conn, &worker.shared.telemetry, &mut request.parts);
    request.upgrade = upgrade;
    behind(&mut cx, Direction::Inbound, &request.parts.headers, config.proxy.trusted_hops);
    let mut exchange = Exchange::begin(&worker, Direction::Inbound, &peer.metrics, cx);
    let answer = match (refused, &config.inbound) {
        (Some(reject), _) => Err(reject),
        (None, None) => Err(Reason::NotReady.into()),
        (None, Some(inbound)) => {
            let to = To { worker: &worker, config: &config, inbound, peer: &peer };
            steps(to, exchange.cx(), request, body).await
        }
    };
    exchange.finish(answer)
}

/// Where a request is.
struct To<'a> {
    worker: &'a Rc<Worker>,
    config: &'a Snapshot,
    inbound: &'a InboundConfig,
    peer: &'a Peer,
}

async fn steps(
    to: To<'_>,
    cx: &mut RequestCx,
    mut request: Inward,
    body: Received,
) -> Result<Response<Body>, Reject> {
    checks::peer(to.peer)?;
    checks::token(to.inbound, cx, &mut request.parts)?;
    checks::authorization(to.worker, to.inbound, cx, &request.parts)?;
    checks::rate(to.worker, to.config, to.inbound, cx, &request.parts).await?;
    let body = checks::size(to.inbound, body)?;
    let slot = to.inbound.limits.request()?;
    let mut answer = app::send(to.worker, &to.peer.port, cx, (request, body), slot).await?;
    checks::tell_rate(cx, &mut answer);
    Ok(answer)
}
