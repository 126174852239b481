//! How an attempt to reach an endpoint ended: what retries, the circuit breaker and outlier detection all judge, each
//! by its own rules. Built by the outbound path once per attempt; decides nothing by itself except what is a failure.

use http::{HeaderMap, StatusCode};
use weft_api::names;

use crate::reject::Reason;

/// How one attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An HTTP answer came.
    Status(StatusCode),
    /// A gRPC answer came with this `grpc-status`.
    Grpc(u32),
    /// No connection: the request has not left.
    ConnectFailed,
    /// The connection was closed under the request before an answer came.
    Reset,
    /// No answer in time.
    Timeout,
    /// The endpoint's proxy is shutting down or not configured yet: its application has not seen the request.
    TurnedAway,
    /// The endpoint's proxy refused it before its application has seen it, because that is broken.
    Unserved,
    /// A limit on this side or the endpoint's proxy refused it: says nothing about health.
    Overflow,
}

/// What an outcome says about the health of whoever answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It works.
    Good,
    /// It does not.
    Bad,
    /// Nothing can be said.
    Unknown,
}

impl Outcome {
    /// The outcome of an answer with these headers. A refusal for load by the endpoint's own proxy is `Overflow`, one
    /// while it starts or stops `TurnedAway`, so that neither is taken for a broken endpoint; another that says that the
    /// request may be sent again is `Unserved`. `grpc-status` among the headers (an answer of trailers only) wins over
    /// the HTTP status.
    pub fn answered(status: StatusCode, headers: &HeaderMap) -> Self {
        if let Some(label) = headers.get(names::HEADER_REASON) {
            match Reason::ALL.iter().find(|reason| reason.label() == label) {
                Some(Reason::Overflow | Reason::RateLimited) => return Self::Overflow,
                Some(Reason::Draining | Reason::NotReady) => return Self::TurnedAway,
                Some(reason) if reason.retryable() => return Self::Unserved,
                _ => {}
            }
        }
        match headers.get("grpc-status") {
            Some(code) => Self::grpc(code.as_bytes()),
            None => Self::Status(status),
        }
    }

    /// The outcome of a gRPC answer by the text of its `grpc-status`; what is no number is `UNKNOWN`, as in gRPC itself.
    pub fn grpc(code: &[u8]) -> Self {
        const UNKNOWN: u32 = 2;
        Self::Grpc(std::str::from_utf8(code).ok().and_then(|text| text.parse().ok()).unwrap_or(UNKNOWN))
    }

    /// What this says about health. A status of 500 or more is a failure; of the gRPC codes those that blame the server:
    /// `UNKNOWN`, `DEADLINE_EXCEEDED`, `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS`.
    pub fn health(self) -> Health {
        match self {
            Self::Status(status) if status.is_server_error() => Health::Bad,
            Self::Grpc(2 | 4 | 13 | 14 | 15)
            | Self::ConnectFailed
            | Self::Reset
            | Self::Timeout
            | Self::Unserved => Health::Bad,
            Self::Status(_) | Self::Grpc(_) => Health::Good,
            Self::Overflow | Self::TurnedAway => Health::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, headers: &[(&'static str, &'static str)]) -> Outcome {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        Outcome::answered(StatusCode::from_u16(status).unwrap(), &map)
    }

    #[test]
    fn only_what_blames_the_server_is_a_failure() {
        let health = |outcome: Outcome| outcome.health();
        assert_eq!(health(answered(200, &[])), Health::Good);
        assert_eq!(health(answered(404, &[])), Health::Good);
        assert_eq!(health(answered(429, &[])), Health::Good);
        assert_eq!(health(answered(500, &[])), Health::Bad);
        assert_eq!(health(answered(503, &[])), Health::Bad);
        assert_eq!(health(answered(200, &[("grpc-status", "14")])), Health::Bad);
        assert_eq!(health(answered(200, &[("grpc-status", "5")])), Health::Good);
        assert_eq!(health(answered(200, &[("grpc-status", "nonsense")])), Health::Bad);
        assert_eq!(health(Outcome::ConnectFailed), Health::Bad);
    }

    #[test]
    fn a_refusal_for_load_or_by_a_proxy_on_its_way_out_says_nothing_about_health() {
        assert_eq!(answered(503, &[("x-weft-reason", "draining")]), Outcome::TurnedAway);
        assert_eq!(answered(503, &[("x-weft-reason", "not-ready")]).health(), Health::Unknown);
        assert_eq!(answered(503, &[("x-weft-reason", "overflow")]).health(), Health::Unknown);
        assert_eq!(answered(429, &[("x-weft-reason", "rate-limited")]).health(), Health::Unknown);
        assert_eq!(answered(503, &[("x-weft-reason", "forbidden")]).health(), Health::Bad);
    }

    #[test]
    fn a_proxy_whose_application_is_gone_has_served_nothing_and_is_no_good() {
        let gone = answered(503, &[("x-weft-reason", "app-unavailable")]);
        assert_eq!((gone, gone.health()), (Outcome::Unserved, Health::Bad));
    }
}
