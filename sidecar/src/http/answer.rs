//! Turns a refusal into an answer: HTTP status with `x-weft-reason`, or for gRPC a trailers-only answer with
//! `grpc-status`. The client learns reason, short text and request id; never the policy or the details.

use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use weft_api::names::{HEADER_REASON, HEADER_REQUEST_ID};

use super::body::Body;
use crate::policy::rate_limit::Standing;
use crate::reject::{Reason, Reject};

const REASON: HeaderName = HeaderName::from_static(HEADER_REASON);
const REQUEST_ID: HeaderName = HeaderName::from_static(HEADER_REQUEST_ID);
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const RATE_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RATE_RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// To whom the answer goes.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// Request id, where one is known yet.
    pub id: &'a str,
    /// Whether it wants gRPC.
    pub grpc: bool,
    /// What it speaks.
    pub version: Version,
}

/// The answer to a refused request.
pub fn refuse(reject: &Reject, asker: Asker<'_>) -> Response<Body> {
    let reason = reject.reason;
    let mut response = if asker.grpc { grpc(reason) } else { plain(reason) };
    if let (Some(status), false) = (reject.status, asker.grpc) {
        *response.status_mut() = status;
    }
    let headers = response.headers_mut();
    headers.insert(REASON, HeaderValue::from_static(reason.label()));
    put_request_id(headers, asker.id);
    if let Some(seconds) = reject.retry_after_secs {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(standing) = reject.standing {
        put_standing(headers, standing);
    }
    if let Some(challenge) = reason.challenge() {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    if closes(reason) && asker.version <= Version::HTTP_11 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Names the request in an answer that the proxy gives itself: without an upstream nobody else does.
pub fn put_request_id(headers: &mut HeaderMap, id: &str) {
    if let Ok(id) = HeaderValue::from_str(id)
        && !id.is_empty()
    {
        headers.insert(REQUEST_ID, id);
    }
}

/// Says how a rate limit stands, in the three headers that clients commonly read
/// (draft-ietf-httpapi-ratelimit-headers, up to version 07). An application's own stay as they are.
pub fn put_standing(headers: &mut HeaderMap, standing: Standing) {
    if headers.contains_key(&RATE_LIMIT) || headers.contains_key(&RATE_REMAINING) {
        return;
    }
    headers.insert(RATE_LIMIT, HeaderValue::from(standing.limit));
    headers.insert(RATE_REMAINING, HeaderValue::from(standing.remaining));
    headers.insert(RATE_RESET, HeaderValue::from(standing.reset_secs));
}

fn plain(reason: Reason) -> Response<Body> {
    let mut response = Response::new(Body::full(reason.text()));
    *response.status_mut() = reason.status();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Trailers-Only of gRPC over HTTP/2: 200 with the status among the headers.
fn grpc(reason: Reason) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(reason.grpc() as u16));
    headers.insert(GRPC_MESSAGE, HeaderValue::from_static(reason.text()));
    response
}

/// After these the connection cannot be trusted, or should not be used further.
const fn closes(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::BadRequest
            | Reason::HeadersTooLarge
            | Reason::RequestTimeout
            | Reason::BodyTooLarge
            | Reason::PeerUnauthenticated
            | Reason::Draining
    )
}
