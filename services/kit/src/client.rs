//! How a service calls its neighbours: gRPC over HTTP/2 without TLS to the sidecar, which does the rest.
//!
//! Every call carries the trace headers, the request id and the time that is left. No retries, no breaker: mesh.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{
    Code, Request, Status,
    metadata::{KeyAndValueRef, MetadataMap},
    transport::{Channel, Endpoint},
};

use crate::{
    cx::Cx,
    errors::{Kind, Problem},
};

/// A connection to a neighbour, made when first used and made again when lost.
pub(crate) fn channel(endpoint: &Endpoint) -> Channel {
    endpoint
        .clone()
        .connect_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(5))
        .connect_lazy()
}

impl Cx {
    /// A request to a neighbour on behalf of this one. Fails when no time is left for it.
    pub fn call<T>(&self, message: T) -> Result<Request<T>, Problem> {
        let left = self.deadline().saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Problem::timeout());
        }
        let headers = self.passed_on().map(|(name, value)| (name.clone(), value.clone())).collect();
        let metadata = MetadataMap::from_headers(headers);
        let mut request = Request::new(message);
        for pair in metadata.iter() {
            match pair {
                KeyAndValueRef::Ascii(key, value) => request.metadata_mut().append(key, value.clone()),
                KeyAndValueRef::Binary(..) => false,
            };
        }
        request.set_timeout(left);
        Ok(request)
    }
}

/// What a neighbour's failure means to our caller, when it is not about what the caller asked for.
pub fn problem(neighbour: &str, status: &Status) -> Problem {
    match status.code() {
        // tonic says Cancelled when its own timer ends the call.
        Code::DeadlineExceeded | Code::Cancelled => Problem::timeout(),
        Code::Unavailable | Code::ResourceExhausted | Code::Aborted => {
            Problem::unavailable(neighbour, status)
        }
        Code::PermissionDenied | Code::Unauthenticated => {
            tracing::error!(neighbour, %status, "a neighbour refuses this service");
            Problem::new(
                Kind::Unavailable,
                "unavailable",
                format!("{neighbour} refuses to be called; see the log"),
            )
        }
        _ => Problem::internal(status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_carries_the_headers_and_the_time_left() {
        let mut headers = http::HeaderMap::new();
        headers.insert("traceparent", http::HeaderValue::from_static("00-a-b-01"));
        headers.insert("x-request-id", http::HeaderValue::from_static("r1"));
        let cx = Cx::new(&headers, Instant::now(), Duration::from_secs(2));
        let request = cx.call(()).unwrap();
        assert_eq!(request.metadata().get("traceparent").unwrap(), "00-a-b-01");
        assert_eq!(request.metadata().get("x-request-id").unwrap(), "r1");
        assert!(request.metadata().get("grpc-timeout").is_some());
        let late = Cx::new(&headers, Instant::now(), Duration::ZERO);
        assert_eq!(late.call(()).unwrap_err().kind(), Kind::Timeout);
    }

    #[test]
    fn a_neighbour_that_is_gone_is_unavailable_not_our_fault() {
        for (status, expect) in [
            (Status::unavailable("x"), Kind::Unavailable),
            (Status::permission_denied("x"), Kind::Unavailable),
            (Status::deadline_exceeded("x"), Kind::Timeout),
            (Status::cancelled("x"), Kind::Timeout),
            (Status::unknown("x"), Kind::Internal),
        ] {
            assert_eq!(problem("user", &status).kind(), expect, "{status}");
        }
    }
}
