//! What an inbound request or connection must pass, one function per step: mutual TLS, token, authorization, rate
//! limits, size. Each calls its policy and acts on what it decides.

use http::Response;
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use http_body::Body as _;
use tokio::time::Instant;
use tracing::info;

use super::Peer;
use crate::config::snapshot::{InboundConfig, Snapshot};
use crate::cx::{ConnCx, RequestCx};
use crate::http::answer::put_standing;
use crate::http::body::Body;
use crate::http::limited::Limited;
use crate::http::received::Received;
use crate::net::worker::Worker;
use crate::policy::authz::Decision;
use crate::policy::rate_limit::tighter;
use crate::reject::{Reason, Reject};
use crate::telemetry::Direction;
use crate::telemetry::clock::unix_now;

/// No plain text where mutual TLS is required.
pub fn peer(peer: &Peer) -> Result<(), Reject> {
    if peer.refused { Err(Reason::PeerUnauthenticated.into()) } else { Ok(()) }
}

/// The user's token.
pub fn token(inbound: &InboundConfig, cx: &mut RequestCx, request: &mut Parts) -> Result<(), Reject> {
    let Some(jwt) = &inbound.jwt else { return Ok(()) };
    if let Some(query) = jwt.verify(cx, &mut request.headers, request.uri.query(), unix_now())? {
        set_query(&mut request.uri, &query);
    }
    Ok(())
}

/// Who may do this.
pub fn authorization(
    worker: &Worker,
    inbound: &InboundConfig,
    cx: &mut RequestCx,
    request: &Parts,
) -> Result<(), Reject> {
    let Some(authz) = &inbound.authz else { return Ok(()) };
    decided(worker, authz.check(cx, &request.headers), &cx.conn)
}

/// Who may connect.
pub fn connection(worker: &Worker, inbound: &InboundConfig, conn: &ConnCx) -> Result<(), Reject> {
    let Some(authz) = &inbound.authz else { return Ok(()) };
    decided(worker, authz.check_connection(conn), conn)
}

/// How often: limits of this instance first, then those shared by all instances.
pub async fn rate(
    worker: &Worker,
    config: &Snapshot,
    inbound: &InboundConfig,
    cx: &mut RequestCx,
    request: &Parts,
) -> Result<(), Reject> {
    cx.standing = inbound.rate_limits.check(cx, &request.headers, Instant::now())?;
    if !inbound.rate_limits.has_global() {
        return Ok(());
    }
    let checks = inbound.rate_limits.global_checks(cx, &request.headers);
    if checks.is_empty() {
        return Ok(());
    }
    let redis = config.proxy.redis_url.as_deref();
    // Most services have none, so it is not to make every request's future larger.
    let metrics = &worker.shared.telemetry.metrics;
    let standing = Box::pin(worker.shared.global_limits.check(redis, &checks, metrics)).await?;
    cx.standing = tighter(cx.standing, standing);
    Ok(())
}

/// How large its body may be: one that is known to be larger is refused, one that turns out to be is broken off.
pub fn size(inbound: &InboundConfig, body: Received) -> Result<Received, Reject> {
    let most = inbound.max_body;
    match body.size_hint().exact() {
        _ if most == 0 => Ok(body),
        Some(length) if length > most => Err(Reject::new(Reason::BodyTooLarge).by("limits.body")),
        Some(_) => Ok(body),
        None => Ok(Received::Limited(Box::new(Limited::new(body, most, None)))),
    }
}

/// Tells how the tightest limit stands, where it is to be told.
pub fn tell_rate(cx: &RequestCx, answer: &mut Response<Body>) {
    if let Some(standing) = cx.standing {
        put_standing(answer.headers_mut(), standing);
    }
}

fn decided(worker: &Worker, decision: Decision, conn: &ConnCx) -> Result<(), Reject> {
    match decision {
        Decision::Allowed { .. } => Ok(()),
        Decision::Denied(reject) => Err(reject),
        Decision::WouldDeny(reject) => {
            worker.shared.telemetry.metrics.would_deny(Direction::Inbound);
            let identity = conn.identity.as_ref().map(tracing::field::display);
            info!(peer = %conn.peer, identity, policy = ?reject.policy, detail = ?reject.detail, "would be refused");
            Ok(())
        }
    }
}

fn set_query(uri: &mut Uri, query: &str) {
    let text = if query.is_empty() { uri.path().to_owned() } else { format!("{}?{query}", uri.path()) };
    if let Ok(target) = PathAndQuery::try_from(text) {
        *uri = Uri::from(target);
    }
}
