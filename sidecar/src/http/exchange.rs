//! One request from its head to the end of its answer: entered once, finished once, and counted, logged and traced
//! whatever happens in between, also when the client goes away.

use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, Response, StatusCode};
use tokio::time::Instant;

use super::answer::{Asker, refuse};
use super::body::{Body, End};
use crate::config::Counted;
use crate::cx::RequestCx;
use crate::net::worker::Worker;
use crate::reject::Reject;
use crate::telemetry::metrics::{InFlight, PeerMetrics};
use crate::telemetry::{Answer, Direction};

/// Client closed the request before there was an answer; never sent, only counted.
const CLIENT_CLOSED: u16 = 499;

/// A request in flight.
#[derive(Debug)]
pub struct Exchange {
    /// What the steps share.
    pub cx: RequestCx,
    record: Record,
}

/// What is left to do when a request ends.
#[derive(Debug)]
struct Record {
    worker: Rc<Worker>,
    direction: Direction,
    metrics: Arc<PeerMetrics>,
    _active: InFlight,
    _counted: Counted,
}

impl Exchange {
    /// Begins an exchange.
    pub fn begin(
        worker: &Rc<Worker>,
        direction: Direction,
        metrics: &Arc<PeerMetrics>,
        cx: RequestCx,
    ) -> Pending {
        let record = Record {
            worker: Rc::clone(worker),
            direction,
            metrics: Arc::clone(metrics),
            _active: metrics.started(),
            _counted: worker.shared.request_started(),
        };
        Pending(Some(Self { cx, record }))
    }

    /// Ends the exchange with this answer or refusal.
    fn finish(self, result: Result<Response<Body>, Reject>) -> Response<Body> {
        let Self { cx, record } = self;
        match result {
            Ok(response) => {
                let status = response.status();
                let early = grpc_status(response.headers());
                let ended = move |end: End<'_>| record.write(cx, status, end.grpc_status().or(early), None);
                response.map(|body| body.on_end(ended))
            }
            Err(reject) => {
                let asker = Asker { id: &cx.id, grpc: cx.grpc, version: cx.version };
                let response = refuse(&reject, asker);
                let grpc = cx.grpc.then_some(reject.reason.grpc() as u8);
                record.write(cx, response.status(), grpc, Some(reject));
                response
            }
        }
    }
}

impl End<'_> {
    fn grpc_status(self) -> Option<u8> {
        match self {
            Self::Complete(trailers) => trailers.and_then(grpc_status),
            Self::Aborted => None,
        }
    }
}

impl Record {
    fn write(&self, cx: RequestCx, status: StatusCode, grpc_status: Option<u8>, reject: Option<Reject>) {
        let duration = Instant::now().saturating_duration_since(cx.started);
        let answer = Answer { status, grpc_status, reject, duration };
        self.worker.shared.telemetry.finished(self.direction, &self.metrics, cx, answer);
    }
}

/// An exchange without an answer yet; dropped before there is one, the client has gone away.
#[derive(Debug)]
pub struct Pending(Option<Exchange>);

impl Pending {
    /// What the steps share.
    pub fn cx(&mut self) -> &mut RequestCx {
        &mut self.0.as_mut().expect("taken only by finish, which consumes").cx
    }

    /// Ends the exchange with this answer or refusal.
    pub fn finish(mut self, result: Result<Response<Body>, Reject>) -> Response<Body> {
        let exchange = self.0.take().expect("taken only by finish, which consumes");
        exchange.finish(result)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(Exchange { cx, record }) = self.0.take() {
            let status = StatusCode::from_u16(CLIENT_CLOSED).unwrap_or(StatusCode::BAD_REQUEST);
            record.write(cx, status, None, None);
        }
    }
}

/// `grpc-status` among these headers or trailers; what is no number is UNKNOWN, as in gRPC itself.
fn grpc_status(headers: &HeaderMap) -> Option<u8> {
    const UNKNOWN: u8 = 2;
    let value = headers.get("grpc-status")?;
    Some(value.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(UNKNOWN))
}
