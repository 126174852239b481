//! The outbound path of a request: the order of the steps, and nothing else.

use std::rc::Rc;
use std::sync::Arc;

use http::Response;

use super::attempts;
use super::destination::{Found, Way, find};
use super::forward::forward;
use super::routes::{self, Routed};
use crate::config::snapshot::{Destination, Pinned};
use crate::cx::{ConnCx, RequestCx};
use crate::http::body::Body;
use crate::http::enter::{Entered, enter};
use crate::http::exchange::Exchange;
use crate::http::received::Received;
use crate::http::upgrade::Inward;
use crate::net::worker::Worker;
use crate::policy::route::Selected;
use crate::reject::Reject;
use crate::telemetry::Direction;

/// Serves one request of the application.
pub async fn handle(
    worker: Rc<Worker>,
    conn: Arc<ConnCx>,
    way: Rc<Way>,
    (mut request, body): (Inward, Received),
) -> Response<Body> {
    let config = worker.shared.config.load_full();
    let Entered { cx, upgrade, refused } =
        enter(Direction::Outbound, &conn, &worker.shared.telemetry, &mut request.parts);
    request.upgrade = upgrade;
    let found = match refused {
        Some(reject) => Err(reject),
        None => find(&worker, &config, &way, &cx.host).await,
    };
    let metrics = match &found {
        Ok(Found::Known(known, _)) => {
            Arc::clone(known.metrics(Direction::Outbound, &worker.shared.telemetry.metrics))
        }
        Ok(Found::Outside(_)) => worker.shared.telemetry.metrics.peer(Direction::Outbound, "outside"),
        Err(_) => worker.shared.telemetry.metrics.peer(Direction::Outbound, "unknown"),
    };
    let mut exchange = Exchange::begin(&worker, Direction::Outbound, &metrics, cx);
    let answer = match found {
        Err(reject) => Err(reject),
        Ok(Found::Outside(address)) => {
            attempts::pass_through(&worker, address, exchange.cx(), (request, body)).await
        }
        Ok(Found::Known(destination, pinned)) => {
            steps(&worker, (destination, pinned), exchange.cx(), request, body).await
        }
    };
    exchange.finish(answer)
}

async fn steps(
    worker: &Rc<Worker>,
    (destination, pinned): (Arc<Destination>, Option<Pinned>),
    cx: &mut RequestCx,
    mut request: Inward,
    body: Received,
) -> Result<Response<Body>, Reject> {
    // Whoever calls one instance by its own address means that one: routes are for those who call the service.
    let selected = if pinned.is_some() { None } else { select(&destination, cx, &request) };
    let followed = match selected {
        Some(selected) => routes::follow(worker, selected, cx, &mut request).await?,
        None => routes::Way::To(Routed::straight(destination, pinned)),
    };
    match followed {
        routes::Way::Answer(reply) => Ok(routes::reply(reply, cx)),
        routes::Way::To(routed) => forward(worker, &routed, cx, request, body).await,
    }
}

/// The destination's own route for this request; inside the mesh having none is no fault.
fn select(destination: &Destination, cx: &mut RequestCx, request: &Inward) -> Option<Selected> {
    let parts = &request.parts;
    destination.routes.as_ref()?.select(cx, parts.uri.query(), &parts.headers)
}
