//! Copies of a request for the mirrors of its route. Nobody waits for their answers, and they never hold anybody up: at
//! most so many are under way to one destination, each for no longer than a request there may take; what is over that is
//! dropped and counted. A request with a body is copied once it has been sent whole, and only if it was small enough to be
//! kept.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::attempts;
use super::routes::Routed;
use crate::config::snapshot::Destination;
use crate::cx::RequestCx;
use crate::http::received::Received;
use crate::net::worker::Worker;
use crate::policy::outcome::Outcome;
use crate::telemetry::metrics::Mirrored;
use crate::upstream::balance::Ask;
use crate::upstream::connect::Speaks;
use crate::upstream::outgoing::Outgoing;

/// Where a destination has no timeout.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Of an answer so much is read, so that its connection can be used again.
const MAX_ANSWER: usize = 64 * 1024;

/// Destinations that get a copy of this request.
pub(super) fn draw(routed: &Routed) -> Vec<Arc<str>> {
    let taking = routed.mirrors().filter(|mirror| mirror.takes(rand::random()));
    taking.map(|mirror| Arc::clone(&mirror.destination)).collect()
}

/// Sends the copies. `request` has been sent, or has no body.
pub(super) fn send(worker: &Rc<Worker>, names: &[Arc<str>], cx: &RequestCx, request: &Outgoing) {
    for name in names {
        let (name, to, copy) = (Arc::clone(name), Rc::clone(worker), request.copy());
        let (speaks, client) = (if cx.grpc { Speaks::H2 } else { Speaks::Http1 }, cx.client_ip);
        worker.tasks.spawn_local(async move {
            let Ok(destination) = to.shared.destination(&name).await else { return };
            let metrics = destination.metrics(to.shared.direction(), &to.shared.telemetry.metrics);
            let (Some(copy), Ok(_slot)) = (copy, destination.mirrors.request()) else {
                return metrics.mirrored(Mirrored::Dropped);
            };
            let sent = deliver(&to, &destination, copy, (speaks, client));
            let sent = timeout(destination.timeout.unwrap_or(TIMEOUT), sent).await;
            metrics.mirrored(if sent == Ok(true) { Mirrored::Sent } else { Mirrored::Failed });
        });
    }
}

/// Whether a copy was answered.
async fn deliver(
    worker: &Rc<Worker>,
    destination: &Destination,
    mut copy: Outgoing,
    (speaks, client): (Speaks, IpAddr),
) -> bool {
    let key = destination.balancer.key(copy.headers(), client);
    let now = Instant::now();
    let ask = Ask { key, random: rand::random(), tried: &[] };
    let Some(picked) = destination.balancer.pick(&ask, now) else { return false };
    let target = attempts::target(destination, picked.endpoint());
    match copy.send(worker, target, speaks).await {
        Ok((answer, connection)) => {
            picked.answered(Outcome::Status(answer.status()), now.elapsed(), Instant::now());
            if finishes(answer).await {
                connection.give_back();
            }
            true
        }
        Err(failure) => {
            debug!(destination = %destination.name, reject = ?failure.reject, "mirror failed");
            false
        }
    }
}

/// Reads an answer to its end, if that is not far.
async fn finishes(answer: Response<Received>) -> bool {
    let mut body = answer.into_body();
    let mut size = 0;
    while !body.is_end_stream() {
        match body.frame().await {
            None => return true,
            Some(Err(_)) => return false,
            Some(Ok(frame)) => size += frame.data_ref().map_or(0, bytes::Bytes::len),
        }
        if size > MAX_ANSWER {
            return false;
        }
    }
    true
}
