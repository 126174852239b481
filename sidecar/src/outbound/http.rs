//! The outbound path of a request: the order of the steps, and nothing else.

use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::attempts;
use super::destination::{Found, To, find};
use crate::config::snapshot::Destination;
use crate::cx::{ConnCx, RequestCx};
use crate::http::body::Body;
use crate::http::enter::{Entered, enter};
use crate::http::exchange::Exchange;
use crate::http::serve::Head;
use crate::http::upgrade::{Inward, take};
use crate::net::worker::Worker;
use crate::reject::{Reason, Reject};
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
        Ok(Found::Known(destination)) => {
            exchange.cx().destination = Some(Arc::clone(&destination.name));
            steps(&worker, &destination, exchange.cx(), (request, body)).await
        }
    };
    exchange.finish(answer)
}

/// What every request to a destination passes, from a sidecar and from a gateway.
pub async fn steps(
    worker: &Rc<Worker>,
    destination: &Arc<Destination>,
    cx: &mut RequestCx,
    request: (Inward, Incoming),
) -> Result<Response<Body>, Reject> {
    fault(destination, cx).await?;
    let slot = destination.limits.request()?;
    attempts::run(worker, destination, cx, request, slot).await
}

/// Injected faults: a pause, a refusal, or both.
async fn fault(destination: &Destination, _cx: &RequestCx) -> Result<(), Reject> {
    if destination.faults.is_empty() {
        return Ok(());
    }
    let injected = destination.faults.decide(rand::random);
    if let Some(delay) = injected.delay {
        tokio::time::sleep_until(Instant::now() + delay).await;
    }
    match injected.abort {
        Some(_) => Err(Reason::FaultInjected.into()),
        None => Ok(()),
    }
}
