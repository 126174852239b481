//! The span of one attempt: begun where an attempt is (`attempts.rs`, `hedge.rs`), told to the endpoint, whose own span
//! stands below it, and exported when the attempt has ended, however that was. Costs a look where the request is not
//! recorded.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::attempts::{Sent, Try};
use crate::config::snapshot::Destination;
use crate::cx::RequestCx;
use crate::net::worker::Worker;
use crate::reject::Reject;
use crate::telemetry::trace::TraceContext;
use crate::telemetry::{Attempt, clock};

/// A span under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    trace: TraceContext,
    /// Which attempt it is, from 1.
    number: usize,
    since: Instant,
}

/// How an attempt ended.
pub(super) enum Outcome<'a> {
    /// It was answered.
    Answered(StatusCode),
    /// It was not.
    Failed(&'a Reject),
    /// Another one was faster.
    Outrun,
}

impl<'a> Outcome<'a> {
    pub(super) fn of(sent: &'a Sent) -> Self {
        match sent {
            Ok((answer, _)) => Self::Answered(answer.status()),
            Err(failure) => Self::Failed(&failure.reject),
        }
    }
}

impl Span {
    /// The span of the attempt with this number; none, where the request is not recorded.
    pub(super) fn begin(worker: &Worker, cx: &RequestCx, number: usize, now: Instant) -> Option<Self> {
        let wanted = worker.shared.telemetry.spans.wants(&cx.trace);
        wanted.then(|| Self { trace: cx.trace.child(), number, since: now })
    }

    /// Tells the endpoint whose child its span is.
    pub(super) fn tell(span: Option<Self>, headers: &mut HeaderMap) {
        if let Some(span) = span {
            span.trace.inject(headers);
        }
    }

    fn end(self, worker: &Worker, to: (&Arc<str>, SocketAddr), outcome: &Outcome<'_>) {
        let (status, reject) = match outcome {
            Outcome::Answered(status) => (Some(*status), None),
            Outcome::Failed(reject) => (None, Some((*reject).clone())),
            Outcome::Outrun => (None, None),
        };
        worker.shared.telemetry.attempted(Attempt {
            trace: self.trace,
            destination: Arc::clone(to.0),
            endpoint: Some(to.1),
            number: self.number,
            status,
            reject,
            duration: Instant::now().saturating_duration_since(self.since),
            ended: clock::now(),
        });
    }
}

impl Try {
    /// Exports the span of this attempt.
    pub(super) fn traced(&self, worker: &Worker, destination: &Destination, outcome: &Outcome<'_>) {
        if let Some(span) = self.span {
            span.end(worker, (&destination.name, self.picked.endpoint().address()), outcome);
        }
    }
}
