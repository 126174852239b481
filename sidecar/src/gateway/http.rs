//! The path of a request from outside: the order of the steps, and nothing else.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::Response;
use http::request::Parts;

use super::{NOWHERE, for_host};
use crate::config::snapshot::{Destination, EdgeTls, GatewayListener, Snapshot};
use crate::cx::{ConnCx, RequestCx};
use crate::http::body::Body;
use crate::http::enter::{Entered, behind, enter};
use crate::http::exchange::Exchange;
use crate::http::received::Received;
use crate::http::upgrade::Inward;
use crate::net::worker::Worker;
use crate::outbound::forward::forward;
use crate::outbound::routes::{self, Way};
use crate::policy::path::NormalPath;
use crate::policy::route::Selected;
use crate::reject::{Reason, Reject};
use crate::telemetry::Direction;
use crate::telemetry::clock::unix_now;

/// Serves one request from outside.
pub async fn handle(
    worker: Rc<Worker>,
    conn: Arc<ConnCx>,
    address: SocketAddr,
    (mut request, body): (Inward, Received),
) -> Response<Body> {
    let config = worker.shared.config.load_full();
    let Entered { mut cx, upgrade, refused } =
        enter(Direction::Gateway, &conn, &worker.shared.telemetry, &mut request.parts);
    request.upgrade = upgrade;
    behind(&mut cx, Direction::Gateway, &request.parts.headers, config.proxy.trusted_hops);
    let way = match refused {
        Some(reject) => Err(reject),
        None => find(&worker, &config, address, &mut cx, &mut request).await,
    };
    let metrics = &worker.shared.telemetry.metrics;
    let metrics = match &way {
        Ok(Way::To(routed)) => Arc::clone(routed.destination.metrics(Direction::Gateway, metrics)),
        Ok(Way::Answer(_)) | Err(_) => metrics.peer(Direction::Gateway, NOWHERE),
    };
    let mut exchange = Exchange::begin(&worker, Direction::Gateway, &metrics, cx);
    let answer = match way {
        Err(reject) => Err(reject),
        Ok(way) => steps(&worker, way, exchange.cx(), request, body).await,
    };
    exchange.finish(answer)
}

/// Listener by host, route by request.
async fn find(
    worker: &Rc<Worker>,
    config: &Snapshot,
    address: SocketAddr,
    cx: &mut RequestCx,
    request: &mut Inward,
) -> Result<Way, Reject> {
    // What goes through is no request, whatever a client says inside a connection that ended here.
    let through = |listener: &&Arc<GatewayListener>| matches!(listener.tls, EdgeTls::Through);
    let listener = for_host(config, address, &cx.host).filter(|listener| !through(listener));
    let listener = listener.ok_or(Reason::NoRoute)?;
    let parts = &request.parts;
    let selected: Option<Selected> = listener.routes.select(cx, parts.uri.query(), &parts.headers);
    routes::follow(worker, selected.ok_or(Reason::NoRoute)?, cx, request).await
}

async fn steps(
    worker: &Rc<Worker>,
    way: Way,
    cx: &mut RequestCx,
    mut request: Inward,
    body: Received,
) -> Result<Response<Body>, Reject> {
    let routed = match way {
        Way::Answer(reply) => return Ok(routes::reply(reply, cx)),
        Way::To(routed) => routed,
    };
    token(&routed.destination, cx, &mut request.parts)?;
    forward(worker, &routed, cx, request, body).await
}

/// The destination's own token check, at the edge already; its proxy checks the same token again. Which paths are exempt
/// is said in the destination's words, so the path counts as it is after rewrites.
fn token(destination: &Destination, cx: &mut RequestCx, request: &mut Parts) -> Result<(), Reject> {
    let Some(jwt) = &destination.jwt else { return Ok(()) };
    let inside = NormalPath::parse(request.uri.path())?;
    let outside = std::mem::replace(&mut cx.path, inside);
    let verified = jwt.verify(cx, &mut request.headers, request.uri.query(), unix_now()).map(drop);
    cx.path = outside;
    verified
}
