//! Refusals: the one list of reasons why a request or connection does not pass, and what each means to whom.
//! Every step returns a [`Reject`]; only the two paths turn it into an answer. The client sees status, short text and
//! request id; log, metric and admin also see the step and the name of the policy.

use http::StatusCode;

use crate::policy::rate_limit::Standing;

/// A refused request: who refused it, why, and by which rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// What the client, the log and the metric are told.
    pub reason: Reason,
    /// Name of the policy or rule, for log and admin; never sent to the client.
    pub policy: Option<Box<str>>,
    /// Further words for the log; never sent to the client.
    pub detail: Option<Box<str>>,
    /// For rate limits and open breakers: when to come back, in whole seconds (`Retry-After`).
    pub retry_after_secs: Option<u32>,
    /// For rate limits: how the limit stands, where it is to be told.
    pub standing: Option<Standing>,
    /// Another status than the reason's: injected faults.
    pub status: Option<StatusCode>,
}

impl Reject {
    /// A refusal for this reason, with nothing else known.
    pub const fn new(reason: Reason) -> Self {
        Self { reason, policy: None, detail: None, retry_after_secs: None, standing: None, status: None }
    }

    /// Names the policy or rule that refused.
    #[must_use]
    pub fn by(mut self, policy: impl Into<Box<str>>) -> Self {
        self.policy = Some(policy.into());
        self
    }

    /// Adds words for the log.
    #[must_use]
    pub fn because(mut self, detail: impl Into<Box<str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Answers with this status.
    #[must_use]
    pub const fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// Says when to come back.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_secs = Some(seconds);
        self
    }
}

impl From<Reason> for Reject {
    fn from(reason: Reason) -> Self {
        Self::new(reason)
    }
}

/// gRPC status codes used for refusals. Source: gRPC core concepts, status codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum GrpcCode {
    /// The request is malformed.
    InvalidArgument = 3,
    /// The deadline passed.
    DeadlineExceeded = 4,
    /// There is no such route.
    NotFound = 5,
    /// The peer or user may not do this.
    PermissionDenied = 7,
    /// A limit was reached.
    ResourceExhausted = 8,
    /// The proxy failed.
    Internal = 13,
    /// Try again elsewhere or later.
    Unavailable = 14,
    /// No valid token.
    Unauthenticated = 16,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident => $label:literal, $status:ident, $grpc:ident, $flag:literal, $retryable:literal, $text:literal;)+) => {
        /// Why a request was refused. The label is the value of `x-weft-reason`, of the metric label and of the log.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $name,)+ }

        impl Reason {
            /// All of them, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Stable kebab-case name: header, metric label.
            pub const fn label(self) -> &'static str { match self { $(Self::$name => $label,)+ } }
            /// HTTP status of the answer.
            pub const fn status(self) -> StatusCode { match self { $(Self::$name => StatusCode::$status,)+ } }
            /// gRPC status of the answer to a gRPC request.
            pub const fn grpc(self) -> GrpcCode { match self { $(Self::$name => GrpcCode::$grpc,)+ } }
            /// Short flag in the access log.
            pub const fn flag(self) -> &'static str { match self { $(Self::$name => $flag,)+ } }
            /// Whether a caller may send the request again: it has not reached the application.
            pub const fn retryable(self) -> bool { match self { $(Self::$name => $retryable,)+ } }
            /// Short text for the client.
            pub const fn text(self) -> &'static str { match self { $(Self::$name => $text,)+ } }
        }
    };
}

reasons! {
    /// No token where one is required.
    JwtMissing => "jwt-missing", UNAUTHORIZED, Unauthenticated, "JM", false, "a token is required";
    /// Not a JWT, or too large, or `alg` not allowed.
    JwtMalformed => "jwt-malformed", UNAUTHORIZED, Unauthenticated, "JF", false, "the token is malformed";
    /// `exp` has passed.
    JwtExpired => "jwt-expired", UNAUTHORIZED, Unauthenticated, "JX", false, "the token has expired";
    /// `nbf` is in the future.
    JwtNotYetValid => "jwt-not-yet-valid", UNAUTHORIZED, Unauthenticated, "JN", false, "the token is not valid yet";
    /// `aud` does not name this service.
    JwtAudience => "jwt-audience", UNAUTHORIZED, Unauthenticated, "JA", false, "the token is for another audience";
    /// `iss` is not trusted here.
    JwtIssuer => "jwt-issuer", UNAUTHORIZED, Unauthenticated, "JI", false, "the token's issuer is not trusted";
    /// `kid` is not among the issuer's keys.
    JwtUnknownKey => "jwt-unknown-key", UNAUTHORIZED, Unauthenticated, "JK", false, "the token's key is unknown";
    /// The signature does not fit, or `alg` does not fit the key.
    JwtSignature => "jwt-signature", UNAUTHORIZED, Unauthenticated, "JS", false, "the token's signature is wrong";
    /// The issuer's keys have never been fetched.
    JwksUnavailable => "jwks-unavailable", SERVICE_UNAVAILABLE, Unavailable, "JU", true, "the token cannot be checked yet";
    /// No rule allows it, or a rule denies it.
    Forbidden => "forbidden", FORBIDDEN, PermissionDenied, "AZ", false, "access denied";
    /// The peer has no mesh identity and strict mutual TLS asks for one.
    PeerUnauthenticated => "peer-unauthenticated", FORBIDDEN, PermissionDenied, "PU", false, "mutual TLS is required";
    /// The server's certificate names another workload than the destination's.
    PeerWrongIdentity => "peer-wrong-identity", BAD_GATEWAY, Unavailable, "PW", true, "the upstream is not who it should be";
    /// A rate limit is used up.
    RateLimited => "rate-limited", TOO_MANY_REQUESTS, ResourceExhausted, "RL", false, "too many requests";
    /// A limit on requests or connections in flight is reached; says nothing about any endpoint's health.
    Overflow => "overflow", SERVICE_UNAVAILABLE, ResourceExhausted, "UO", true, "too many requests in flight";
    /// The circuit breaker is open.
    CircuitOpen => "circuit-open", SERVICE_UNAVAILABLE, Unavailable, "CO", false, "the circuit breaker is open";
    /// The destination has no endpoint that may be used.
    NoEndpoints => "no-endpoints", SERVICE_UNAVAILABLE, Unavailable, "UH", true, "no instance is available";
    /// No connection could be made.
    ConnectFailed => "connect-failed", SERVICE_UNAVAILABLE, Unavailable, "UF", true, "the upstream cannot be reached";
    /// Connecting took too long.
    ConnectTimeout => "connect-timeout", GATEWAY_TIMEOUT, Unavailable, "UC", true, "connecting to the upstream timed out";
    /// The upstream closed the connection before it answered.
    UpstreamReset => "upstream-reset", BAD_GATEWAY, Unavailable, "UR", false, "the upstream closed the connection";
    /// The upstream's answer breaks the protocol.
    UpstreamProtocol => "upstream-protocol", BAD_GATEWAY, Internal, "UP", false, "the upstream's answer is malformed";
    /// The request's timeout passed.
    Timeout => "timeout", GATEWAY_TIMEOUT, DeadlineExceeded, "UT", false, "the request timed out";
    /// No route matches.
    NoRoute => "no-route", NOT_FOUND, NotFound, "NR", false, "no route matches";
    /// The route has no valid backend.
    InvalidRoute => "invalid-route", INTERNAL_SERVER_ERROR, Internal, "IR", false, "the route has no valid backend";
    /// The destination is not in the mesh and `outboundPolicy` is `RegistryOnly`.
    UnknownDestination => "unknown-destination", BAD_GATEWAY, Unavailable, "UD", false, "the destination is not in the mesh";
    /// The request is malformed (RFC 9112).
    BadRequest => "bad-request", BAD_REQUEST, InvalidArgument, "BR", false, "the request is malformed";
    /// The header block is too large (RFC 6585, section 5).
    HeadersTooLarge => "headers-too-large", REQUEST_HEADER_FIELDS_TOO_LARGE, InvalidArgument, "HL", false, "the header block is too large";
    /// The body has more bytes than it may.
    BodyTooLarge => "body-too-large", PAYLOAD_TOO_LARGE, ResourceExhausted, "BL", false, "the body is too large";
    /// A client of HTTP/2 sent too many frames without content; its connection is closed.
    Flood => "flood", TOO_MANY_REQUESTS, ResourceExhausted, "FL", false, "too many frames without content";
    /// The client did not take its answer in time; the answer is given up.
    ClientStalled => "client-stalled", REQUEST_TIMEOUT, DeadlineExceeded, "CS", false, "the answer was not taken in time";
    /// The client did not send its request in time.
    RequestTimeout => "request-timeout", REQUEST_TIMEOUT, DeadlineExceeded, "RT", false, "the request was not sent in time";
    /// OPTIONS (200) or TRACE has used up its `Max-Forwards` and is answered here.
    MaxForwards => "max-forwards", NOT_IMPLEMENTED, InvalidArgument, "MF", false, "the request may go no further";
    /// A fault was injected by policy.
    FaultInjected => "fault-injected", SERVICE_UNAVAILABLE, Unavailable, "FI", false, "fault injected";
    /// The application beside this proxy does not answer.
    AppUnavailable => "app-unavailable", SERVICE_UNAVAILABLE, Unavailable, "AU", true, "the application cannot be reached";
    /// The proxy has no configuration yet.
    NotReady => "not-ready", SERVICE_UNAVAILABLE, Unavailable, "NC", true, "the proxy has no configuration yet";
    /// The proxy is draining.
    Draining => "draining", SERVICE_UNAVAILABLE, Unavailable, "DR", true, "the proxy is shutting down";
    /// The proxy failed; a bug.
    Internal => "internal", INTERNAL_SERVER_ERROR, Internal, "IE", false, "internal error";
}

impl Reason {
    /// The `error` of `WWW-Authenticate: Bearer` (RFC 6750, section 3) where this answer must carry that header.
    /// Without a token there is only a challenge, no error.
    pub const fn challenge(self) -> Option<&'static str> {
        match self {
            Self::JwtMissing => Some("Bearer"),
            Self::JwtMalformed
            | Self::JwtExpired
            | Self::JwtNotYetValid
            | Self::JwtAudience
            | Self::JwtIssuer
            | Self::JwtUnknownKey
            | Self::JwtSignature => Some("Bearer error=\"invalid_token\""),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn labels_and_flags_are_unique() {
        let labels: HashSet<_> = Reason::ALL.iter().map(|reason| reason.label()).collect();
        let flags: HashSet<_> = Reason::ALL.iter().map(|reason| reason.flag()).collect();
        assert_eq!((labels.len(), flags.len()), (Reason::ALL.len(), Reason::ALL.len()));
    }

    #[test]
    fn every_401_carries_a_challenge_and_nothing_else_does() {
        for reason in Reason::ALL {
            assert_eq!(
                reason.challenge().is_some(),
                reason.status() == StatusCode::UNAUTHORIZED,
                "{reason:?}"
            );
        }
    }

    #[test]
    fn every_reason_is_an_error_status() {
        for reason in Reason::ALL {
            assert!(reason.status().is_client_error() || reason.status().is_server_error(), "{reason:?}");
        }
    }
}
