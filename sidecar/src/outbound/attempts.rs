//! Sends a request to an endpoint of its destination, and again where its policies say so: picks the endpoint, asks the
//! breaker, waits between attempts, keeps the deadline, and tells breaker, balancer and outlier detection how it ended.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Response, StatusCode, Version};
use http_body::Body as _;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};
use weft_api::v1::Protocol;

use super::hedge::race;
use super::mirror;
use super::routes::Routed;
use super::span::Span;
use crate::config::snapshot::{Destination, Pinned};
use crate::cx::RequestCx;
use crate::http::body::{Body, End};
use crate::http::deadline;
use crate::http::received::Received;
use crate::http::upgrade::{Inward, Switch, conclude};
use crate::net::worker::Worker;
use crate::policy::breaker::{Permit, Transition};
use crate::policy::limits::Slot;
use crate::policy::outcome::Outcome;
use crate::policy::retry::{Attempt, Hedge, Next};
use crate::reject::{Reason, Reject};
use crate::telemetry::Direction;
use crate::upstream::balance::{Ask, Endpoint, Picked};
use crate::upstream::connect::{CONNECT_TIMEOUT, Speaks, Target};
use crate::upstream::outgoing::{Failure, Outgoing};
use crate::upstream::pool::Connection;

const NEVER: Duration = Duration::from_hours(24);

/// Everything the attempts of one request share.
pub(super) struct Run<'a> {
    pub(super) worker: &'a Rc<Worker>,
    pub(super) destination: &'a Arc<Destination>,
    pinned: Option<Pinned>,
    pub(super) cx: &'a mut RequestCx,
    pub(super) outgoing: Outgoing,
    deadline: Instant,
    attempt_timeout: Option<Duration>,
    /// Indices of endpoints tried.
    tried: Vec<usize>,
}

/// An attempt under way: its endpoint, the breaker's leave, and when it began (once it has a connection: when it was
/// handed to that).
pub(super) struct Try {
    pub(super) picked: Picked,
    pub(super) permit: Option<Permit>,
    pub(super) since: Instant,
    pub(super) span: Span,
}

/// What sending a request gave.
pub(super) type Sent = Result<(Response<Received>, Connection), Failure>;

/// An attempt that ended: with an answer, or without.
struct Ended {
    result: Result<Answered, Reject>,
    outcome: Outcome,
}

/// An answer, and what must be kept until its body has passed.
struct Answered {
    answer: Response<Received>,
    connection: Connection,
    picked: Picked,
    /// Not yet recorded, because the outcome stands in the trailers.
    permit: Option<Permit>,
}

/// Sends the request until there is an answer to pass on, or a refusal. The slot is held until the answer has passed.
pub async fn run(
    worker: &Rc<Worker>,
    routed: &Routed,
    cx: &mut RequestCx,
    (mut request, body): (Inward, Received),
    slot: Slot,
) -> Result<Response<Body>, Reject> {
    let now = Instant::now();
    let destination = &routed.destination;
    let client = request.client.take();
    let deadline = now + deadline::of(&request.parts.headers, routed.timeout).unwrap_or(NEVER);
    let replays = destination.retry.replays();
    if replays {
        destination.budget.request(now);
    }
    let mut mirrors = mirror::draw(routed);
    let outgoing = Outgoing::new(request, body, replays || !mirrors.is_empty());
    if outgoing.is_bare() {
        mirror::send(worker, &std::mem::take(&mut mirrors), cx, &outgoing);
    }
    let attempt_timeout = routed.attempt_timeout;
    let pinned = routed.pinned;
    let mut run =
        Run { worker, destination, pinned, cx, outgoing, deadline, attempt_timeout, tried: Vec::new() };
    let answered = run.until_answered().await;
    mirror::send(worker, &mirrors, run.cx, &run.outgoing);
    let Answered { answer, connection, picked, permit } = answered?;
    let destination = Arc::clone(destination);
    let judge = worker.clone();
    let status = answer.status();
    let switch = Switch { client, idle: destination.stream_idle_timeout };
    let response = conclude(worker, cx, switch, answer, (connection, (picked, slot)));
    Ok(match permit {
        None => response,
        Some(permit) => response.map(|body| {
            body.on_end(move |end| {
                if let End::Complete(trailers) = end {
                    let grpc = trailers.and_then(|trailers| trailers.get("grpc-status"));
                    let outcome = grpc.map_or(Outcome::Status(status), |code| Outcome::grpc(code.as_bytes()));
                    moved(&judge, &destination, permit.record(outcome, Instant::now()));
                }
            })
        }),
    })
}

impl Run<'_> {
    async fn until_answered(&mut self) -> Result<Answered, Reject> {
        loop {
            self.cx.attempts += 1;
            let ended = self.once().await?;
            let attempt = Attempt {
                made: self.cx.attempts,
                outcome: ended.outcome,
                replayable: self.outgoing.is_whole() && !self.outgoing.is_upgrade(),
                others: self.pinned.is_none()
                    && self.destination.balancer.has_others(&self.tried, Instant::now()),
            };
            match self.destination.retry.decide(&attempt, rand::random()) {
                Next::Elsewhere => {}
                Next::After(pause) if self.may_retry(pause) => {
                    drop(ended);
                    sleep(pause).await;
                }
                Next::Stop | Next::After(_) => return ended.result,
            }
        }
    }

    fn may_retry(&self, pause: Duration) -> bool {
        let now = Instant::now();
        let metrics = self.destination.metrics(self.direction(), &self.worker.shared.telemetry.metrics);
        if now + pause >= self.deadline {
            return false;
        }
        let allowed = self.destination.budget.retry(now);
        if allowed {
            metrics.retried();
        } else {
            metrics.retry_over_budget();
        }
        allowed
    }

    /// One attempt, or several side by side. An error is a refusal of our own that no other attempt can mend.
    async fn once(&mut self) -> Result<Ended, Reject> {
        let mut this = self.begin()?;
        let until = self.attempt_timeout.map_or(self.deadline, |limit| self.deadline.min(this.since + limit));
        let sent = match self.hedge() {
            None => {
                let endpoint = this.picked.endpoint();
                let speaks = speaks(self.destination.protocol, endpoint, self.cx, &self.outgoing);
                deadline::tell(self.outgoing.headers_mut(), until, this.since);
                this.span.tell(self.outgoing.headers_mut());
                let target = target(self.destination, endpoint);
                let sent = timeout_at(until, self.outgoing.send(self.worker, target, speaks)).await;
                // Connecting is paid once and says nothing about how fast the next request is answered.
                this.since = self.outgoing.sent().unwrap_or(this.since);
                sent.unwrap_or_else(|_| Err(timed_out()))
            }
            Some(hedge) => {
                let (winner, sent) = Box::pin(race(self, this, hedge, until)).await;
                this = winner;
                sent
            }
        };
        Ok(self.end(this, sent))
    }

    /// Asks the breaker and picks the endpoint.
    fn begin(&mut self) -> Result<Try, Reject> {
        let now = Instant::now();
        let permit = self.admit(now)?;
        match self.pick(now) {
            Ok(picked) => {
                self.tried.push(picked.index());
                let span = Span::begin(self, picked.endpoint(), self.tried.len(), now);
                Ok(Try { picked, permit, since: now, span })
            }
            Err(reject) => {
                // Whoever has no instance is as far away as one that cannot be reached.
                self.record(permit, Outcome::ConnectFailed);
                Err(reject)
            }
        }
    }

    fn end(&mut self, this: Try, sent: Sent) -> Ended {
        let Try { picked, permit, since, span } = this;
        span.end(&sent);
        self.cx.endpoint = Some(picked.endpoint().address());
        let outcome = outcome(&sent);
        judge(self.worker, self.destination, &picked, (outcome, since));
        let result = match sent {
            Ok((answer, connection)) => {
                let permit = self.record_now(permit, outcome, &answer);
                Ok(Answered { answer, connection, picked, permit })
            }
            Err(failure) => {
                self.record(permit, outcome);
                Err(failure.reject)
            }
        };
        Ended { result, outcome }
    }

    /// How this request is hedged, if it is: only one that may be made twice and has no body.
    fn hedge(&self) -> Option<Hedge> {
        let hedge = self.destination.retry.hedge()?;
        let may = matches!(self.cx.method, Method::GET | Method::HEAD) && self.outgoing.is_bare();
        (may && self.pinned.is_none()).then_some(hedge)
    }

    /// Another attempt beside those under way, where there is an endpoint for it and the budget allows it.
    pub(super) fn another(&mut self) -> Option<Try> {
        let now = Instant::now();
        let destination = self.destination;
        if !destination.balancer.has_others(&self.tried, now) {
            return None;
        }
        let metrics = destination.metrics(self.direction(), &self.worker.shared.telemetry.metrics);
        if !destination.budget.retry(now) {
            metrics.retry_over_budget();
            return None;
        }
        let another = self.begin().ok()?;
        metrics.hedged();
        self.cx.attempts += 1;
        Some(another)
    }

    /// One of several attempts has failed; others are under way.
    pub(super) fn fail(&self, this: Try, sent: &Sent, outcome: Outcome) {
        this.span.end(sent);
        judge(self.worker, self.destination, &this.picked, (outcome, this.since));
        self.record(this.permit, outcome);
    }

    fn admit(&self, now: Instant) -> Result<Option<Permit>, Reject> {
        let Some(breaker) = &self.destination.breaker else { return Ok(None) };
        let permit = breaker.admit(now).map_err(|reject| reject.by(&*self.destination.name))?;
        moved(self.worker, self.destination, permit.transition());
        Ok(Some(permit))
    }

    fn pick(&self, now: Instant) -> Result<Picked, Reject> {
        let balancer = &self.destination.balancer;
        if let Some(pinned) = self.pinned {
            return Ok(balancer.pinned(pinned, now));
        }
        let begun = self.cx.session;
        let key = begun.or_else(|| balancer.key(self.outgoing.headers(), self.cx.client_ip));
        let ask = Ask { key, random: rand::random(), tried: &self.tried };
        balancer
            .pick(&ask, now)
            .ok_or_else(|| Reject::new(Reason::NoEndpoints).because(&*self.destination.name))
    }

    /// Records an answer, unless its outcome is still to come: gRPC says it in the trailers.
    fn record_now(
        &self,
        permit: Option<Permit>,
        outcome: Outcome,
        answer: &Response<Received>,
    ) -> Option<Permit> {
        let later =
            self.cx.grpc && outcome == Outcome::Status(StatusCode::OK) && !answer.body().is_end_stream();
        if later {
            return permit;
        }
        self.record(permit, outcome);
        None
    }

    fn record(&self, permit: Option<Permit>, outcome: Outcome) {
        let transition = permit.and_then(|permit| permit.record(outcome, Instant::now()));
        moved(self.worker, self.destination, transition);
    }

    fn direction(&self) -> Direction {
        self.worker.shared.direction()
    }
}

/// How an attempt ended, as policies see it.
pub(super) fn outcome(sent: &Sent) -> Outcome {
    match sent {
        Ok((answer, _)) => Outcome::answered(answer.status(), answer.headers()),
        Err(failure) => failure.outcome,
    }
}

/// Tells balancing and outlier detection how an attempt ended that began at this time, and log and metric of an ejection
/// that follows. So too for raw connections, whose attempts are to connect.
pub(super) fn judge(
    worker: &Worker,
    destination: &Destination,
    picked: &Picked,
    (outcome, since): (Outcome, Instant),
) {
    let now = Instant::now();
    picked.answered(outcome, now.saturating_duration_since(since), now);
    let Some(outlier) = &destination.outlier else { return };
    let balancer = &destination.balancer;
    let endpoint = picked.endpoint();
    if let Some(time) = outlier.record(endpoint.ejection(), outcome, now, || balancer.peers(now)) {
        warn!(destination = %destination.name, instance = %endpoint.instance(), ?time, "endpoint ejected");
        let metrics = destination.metrics(worker.shared.direction(), &worker.shared.telemetry.metrics);
        metrics.ejected(balancer.peers(now).ejected);
    }
}

/// Tells log and metric that the breaker has changed its state.
fn moved(worker: &Worker, destination: &Destination, transition: Option<Transition>) {
    let Some(transition) = transition else { return };
    info!(destination = %destination.name, from = ?transition.from, to = ?transition.to, "circuit breaker moved");
    let metrics = destination.metrics(worker.shared.direction(), &worker.shared.telemetry.metrics);
    metrics.breaker_moved(transition);
}

/// Where to connect for this endpoint.
pub fn target<'a>(destination: &'a Destination, endpoint: &Endpoint) -> Target<'a> {
    Target {
        name: &destination.name,
        address: endpoint.address(),
        peer: destination.mtls.as_ref().filter(|_| endpoint.is_meshed()),
        connect_timeout: destination.connect_timeout,
        idle_timeout: destination.idle_timeout,
    }
}

/// Between proxies a request travels in the version it came in; a declared HTTP/2 or gRPC port always gets HTTP/2, and an
/// application without proxy gets HTTP/2 only where it declares it or the request is gRPC.
pub(super) fn speaks(protocol: Protocol, endpoint: &Endpoint, cx: &RequestCx, outgoing: &Outgoing) -> Speaks {
    match protocol {
        _ if outgoing.is_upgrade() => Speaks::Http1,
        Protocol::Http2 | Protocol::Grpc => Speaks::H2,
        _ if cx.version == Version::HTTP_2 && (endpoint.is_meshed() || cx.grpc) => Speaks::H2,
        _ => Speaks::Http1,
    }
}

pub(super) fn timed_out() -> Failure {
    Failure { outcome: Outcome::Timeout, reject: Reason::Timeout.into() }
}

/// Traffic to what the mesh does not know goes where it was going, as it is.
pub async fn pass_through(
    worker: &Rc<Worker>,
    address: SocketAddr,
    cx: &mut RequestCx,
    (mut request, body): (Inward, Received),
) -> Result<Response<Body>, Reject> {
    let name: Arc<str> = "outside".into();
    let target = Target {
        name: &name,
        address,
        peer: None,
        connect_timeout: CONNECT_TIMEOUT,
        idle_timeout: CONNECT_TIMEOUT,
    };
    let client = request.client.take();
    let mut outgoing = Outgoing::new(request, body, false);
    let speaks = if cx.version == Version::HTTP_2 { Speaks::H2 } else { Speaks::Http1 };
    cx.endpoint = Some(address);
    cx.attempts = 1;
    let sent = outgoing.send(worker, target, speaks).await;
    let (answer, connection) = sent.map_err(|failure| failure.reject)?;
    let switch = Switch { client, idle: Some(worker.shared.settings.client_idle_timeout) };
    Ok(conclude(worker, cx, switch, answer, (connection, ())))
}
