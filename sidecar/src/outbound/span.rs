//! The span of one attempt: begun where an attempt is (`attempts.rs`, `hedge.rs`), told to the endpoint, whose own span
//! stands below it, and exported when the attempt has ended, however that was: also when nobody waits for it any more.
//! Costs a look where the request is not recorded.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::attempts::{Run, Sent};
use crate::net::worker::Worker;
use crate::reject::Reject;
use crate::telemetry::trace::TraceContext;
use crate::telemetry::{Attempt, clock};
use crate::upstream::balance::Endpoint;

/// A span under way; none, where the request is not recorded. Dropped before [`Span::end`], the attempt was given up:
/// another one was faster, or whoever asked has gone.
pub(super) struct Span(Option<Box<Open>>);

struct Open {
    worker: Rc<Worker>,
    trace: TraceContext,
    destination: Arc<str>,
    endpoint: SocketAddr,
    /// Which attempt it is, from 1.
    number: usize,
    since: Instant,
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Span").field(&self.0.as_ref().map(|open| open.trace)).finish()
    }
}

impl Span {
    /// The span of the attempt with this number.
    pub(super) fn begin(run: &Run<'_>, endpoint: &Endpoint, number: usize, now: Instant) -> Self {
        let wanted = run.worker.shared.telemetry.spans.wants(&run.cx.trace);
        Self(wanted.then(|| {
            Box::new(Open {
                worker: Rc::clone(run.worker),
                trace: run.cx.trace.child(),
                destination: Arc::clone(&run.destination.name),
                endpoint: endpoint.address(),
                number,
                since: now,
            })
        }))
    }

    /// Tells the endpoint whose child its span is.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        if let Some(open) = &self.0 {
            open.trace.inject(headers);
        }
    }

    /// Exports it: the attempt has ended so.
    pub(super) fn end(mut self, sent: &Sent) {
        if let Some(open) = self.0.take() {
            match sent {
                Ok((answer, _)) => open.export(Some(answer.status()), None),
                Err(failure) => open.export(None, Some(failure.reject.clone())),
            }
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some(open) = self.0.take() {
            open.export(None, None);
        }
    }
}

impl Open {
    fn export(self, status: Option<StatusCode>, reject: Option<Reject>) {
        self.worker.shared.telemetry.attempted(Attempt {
            trace: self.trace,
            destination: self.destination,
            endpoint: Some(self.endpoint),
            number: self.number,
            status,
            reject,
            duration: Instant::now().saturating_duration_since(self.since),
            ended: clock::now(),
        });
    }
}
