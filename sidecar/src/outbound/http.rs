//! The outbound path of a request: the order of the steps, and nothing else.

use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;

use super::attempts;
use super::destination::{Found, To, find};
use super::forward::forward;
use super::routes::{self, Routed, Way};
use crate::config::snapshot::Destination;
use crate::cx::{ConnCx, RequestCx};
use crate::http::body::Body;
use crate::http::enter::{Entered, enter};
use crate::http::exchange::Exchange;
use crate::http::serve::Head;
use crate::http::upgrade::{Inward, take};
use crate::net::worker::Worker;
use crate::policy::route::Selected;
use crate::reject::Reject;
use crate::telemetry::Direction;

/// Serves one request of the application.
pub async fn handle(
    worker: Rc<Worker>,
    conn: Arc<ConnCx>,
    to: Rc<To>,
    request: Request<Incoming>,
    head: Head,
) -> Response<Body> {
    let config = worker.shared.config.load_full();
    let (mut request, body) = take(request);
    let Entered { cx, upgrade, refused } =
        enter(Direction::Outbound, &conn, &worker.shared.telemetry, &mut request.parts, head);
    request.upgrade = upgrade;
    let found = match refused {
        Some(reject) => Err(reject),
        None => find(&worker, &config, &to, &cx.host).await,
    };
    let metrics = match &found {
        Ok(Found::Known(known)) => {
            Arc::clone(known.metrics(Direction::Outbound, &worker.shared.telemetry.metrics))
        }
        Ok(Found::Outside(_)) => worker.shared.telemetry.metrics.peer(Direction::Outbound, "outside"),
        Err(_) => worker.shared.telemetry.metrics.peer(Direction::Outbound, "unknown"),
    };
    let mut exchange = Exchange::begin(&worker, Direction::Outbound, &metrics, cx, head.closing);
    let answer = match found {
        Err(reject) => Err(reject),
        Ok(Found::Outside(address)) => {
            attempts::pass_through(&worker, address, exchange.cx(), (request, body)).await
        }
        Ok(Found::Known(destination)) => steps(&worker, destination, exchange.cx(), request, body).await,
    };
    exchange.finish(answer)
}

async fn steps(
    worker: &Rc<Worker>,
    destination: Arc<Destination>,
    cx: &mut RequestCx,
    mut request: Inward,
    body: Incoming,
) -> Result<Response<Body>, Reject> {
    let way = match select(&destination, cx, &request) {
        Some(selected) => routes::follow(worker, selected, cx, &mut request).await?,
        None => Way::To(Routed::straight(destination)),
    };
    match way {
        Way::Answer(redirection) => Ok(routes::redirect(redirection, cx)),
        Way::To(routed) => forward(worker, &routed, cx, request, body).await,
    }
}

/// The destination's own route for this request; inside the mesh having none is no fault.
fn select(destination: &Destination, cx: &mut RequestCx, request: &Inward) -> Option<Selected> {
    let parts = &request.parts;
    destination.routes.as_ref()?.select(cx, parts.uri.query(), &parts.headers)
}
