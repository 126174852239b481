//! What every request to a destination passes once it is clear which one, from a sidecar and from a gateway alike:
//! faults, limits, attempts, and the stale answer where none comes.

use std::rc::Rc;
use std::sync::Arc;

use http::header::SET_COOKIE;
use http::{HeaderMap, Response};
use tokio::time::{Instant, sleep};

use super::attempts;
use super::routes::Routed;
use crate::config::snapshot::Destination;
use crate::cx::RequestCx;
use crate::http::answer::put_request_id;
use crate::http::body::Body;
use crate::http::received::Received;
use crate::http::upgrade::Inward;
use crate::net::worker::Worker;
use crate::policy::fallback::Key;
use crate::reject::{Reason, Reject};

/// Sends a request to its destination.
pub async fn forward(
    worker: &Rc<Worker>,
    routed: &Routed,
    cx: &mut RequestCx,
    request: Inward,
    body: Received,
) -> Result<Response<Body>, Reject> {
    let destination = &routed.destination;
    cx.destination = Some(Arc::clone(&destination.name));
    if !destination.faults.is_empty() {
        Box::pin(fault(destination, cx, &request.parts.headers)).await?;
    }
    let session = destination.balancer.session(&request.parts.headers, rand::random, cx.conn.tls);
    cx.session = session.as_ref().map(|session| session.key);
    let slot = destination.limits.request()?;
    let fallback = Fallback::of(destination, cx, &request);
    let answer = attempts::run(worker, routed, cx, (request, body), slot).await;
    let mut answer = match fallback {
        None => answer?,
        Some(fallback) => fallback.instead(worker, destination, cx, answer)?,
    };
    if let Some(session) = session {
        answer.headers_mut().append(SET_COOKIE, session.cookie);
    }
    routed.edit(&mut answer);
    Ok(answer)
}

/// Injected faults: a pause, a refusal, or both.
async fn fault(destination: &Destination, cx: &RequestCx, headers: &HeaderMap) -> Result<(), Reject> {
    let injected = destination.faults.decide(cx, headers, rand::random);
    if let Some(delay) = injected.delay {
        sleep(delay).await;
    }
    match injected.abort {
        Some(status) => Err(Reject::new(Reason::FaultInjected).with_status(status)),
        None => Ok(()),
    }
}

/// A request whose answer is kept, or may be answered from what is kept.
struct Fallback {
    key: Key,
    headers: HeaderMap,
}

impl Fallback {
    fn of(destination: &Destination, cx: &RequestCx, request: &Inward) -> Option<Self> {
        destination.stale?;
        let (uri, headers) = (&request.parts.uri, &request.parts.headers);
        let key = Key::new(cx, &destination.name, uri.query(), headers)?;
        Some(Self { key, headers: headers.clone() })
    }

    fn instead(
        self,
        worker: &Rc<Worker>,
        destination: &Destination,
        cx: &RequestCx,
        answer: Result<Response<Body>, Reject>,
    ) -> Result<Response<Body>, Reject> {
        let (now, cache) = (Instant::now(), &worker.shared.stale);
        match answer {
            Ok(answer) => {
                let (parts, body) = answer.into_parts();
                Ok(match cache.record(&self.key, &self.headers, &parts, now) {
                    Some(recording) => Response::from_parts(parts, body.recorded(recording)),
                    None => Response::from_parts(parts, body),
                })
            }
            Err(reject) if unanswered(reject.reason) => {
                let stale = destination.stale.unwrap_or_default();
                let kept = cache.get(&self.key, &self.headers, stale, now).ok_or(reject)?;
                let direction = worker.shared.direction();
                destination.metrics(direction, &worker.shared.telemetry.metrics).served_stale();
                let mut answer = Response::new(Body::full(kept.body));
                *answer.status_mut() = kept.status;
                *answer.headers_mut() = kept.headers;
                put_request_id(answer.headers_mut(), &cx.id);
                Ok(answer)
            }
            Err(reject) => Err(reject),
        }
    }
}

/// Whether the destination is refusing or gone, so that an old answer is better than none (RFC 5861, section 4). An
/// answer that did come, whatever its status, is the destination's own word and passes.
fn unanswered(reason: Reason) -> bool {
    use Reason::{CircuitOpen, ConnectFailed, ConnectTimeout, NoEndpoints, Timeout, UpstreamReset};
    matches!(reason, CircuitOpen | NoEndpoints | ConnectFailed | ConnectTimeout | Timeout | UpstreamReset)
}
