//! The context of one request: who calls, until when an answer is of use, and the headers to pass on.
//!
//! Made once by `access` for HTTP and gRPC alike, read by the APIs, handed to every call of a neighbour (`client`).
//! Identity headers are trusted: the sidecar sets them from the verified token and removes any that came from outside.

use std::time::Duration;

use axum::extract::FromRequestParts;
use http::{HeaderMap, HeaderName, HeaderValue, request::Parts};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use uuid::Uuid;

use crate::errors::{Kind, Problem};

/// The header that names the request in the logs of every hop.
pub static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const USER_ID: &str = "x-user-id";
const USER_ROLE: &str = "x-user-role";
const PASSED_ON: [&str; 3] = ["traceparent", "tracestate", "baggage"];

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Buys.
    Customer,
    /// Runs the shop.
    Admin,
}

impl Role {
    /// The role as headers, tokens and tables spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Customer => "customer",
            Role::Admin => "admin",
        }
    }

    /// The role of that spelling; whatever is not known may do the least.
    pub fn parse(text: &str) -> Self {
        if text == "admin" { Role::Admin } else { Role::Customer }
    }
}

/// The user on whose behalf the request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Their id.
    pub id: Uuid,
    /// Their role.
    pub role: Role,
}

impl Caller {
    /// Passes admins only.
    pub fn admin(self) -> Result<Self, Problem> {
        match self.role {
            Role::Admin => Ok(self),
            Role::Customer => Err(forbidden()),
        }
    }

    /// Passes admins, and the user the thing belongs to.
    pub fn owner_or_admin(self, owner: Uuid) -> Result<Self, Problem> {
        if self.id == owner { Ok(self) } else { self.admin() }
    }
}

fn forbidden() -> Problem {
    Problem::new(Kind::Forbidden, "forbidden", "this needs the role admin or to be the owner")
}

/// The context of one request.
#[derive(Clone, Debug)]
pub struct Cx {
    request_id: HeaderValue,
    trace: HeaderMap,
    caller: Option<Caller>,
    deadline: Instant,
}

impl Cx {
    /// Reads the context from the headers of a request.
    pub fn new(headers: &HeaderMap, now: Instant, longest: Duration) -> Self {
        let mut trace = HeaderMap::with_capacity(PASSED_ON.len());
        for name in PASSED_ON {
            headers.get_all(name).iter().for_each(|value| {
                trace.append(name, value.clone());
            });
        }
        Self {
            request_id: headers.get(&REQUEST_ID).cloned().unwrap_or_else(new_request_id),
            trace,
            caller: caller(headers),
            deadline: now
                + headers.get("grpc-timeout").and_then(grpc_timeout).unwrap_or(longest).min(longest),
        }
    }

    /// A context for work that nobody waits for.
    pub fn background(longest: Duration) -> Self {
        Self::new(&HeaderMap::new(), Instant::now(), longest)
    }

    /// The same request with new time: for cleaning up after its deadline.
    #[must_use]
    pub fn extended(&self, longest: Duration) -> Self {
        Self { deadline: Instant::now() + longest, ..self.clone() }
    }

    /// The context of a gRPC request.
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get::<Cx>().cloned().unwrap_or_else(|| Self::background(Duration::from_secs(10)))
    }

    /// The user on whose behalf the request is made.
    pub fn caller(&self) -> Result<Caller, Problem> {
        let missing = || Problem::new(Kind::Unauthenticated, "unauthenticated", "log in and send the token");
        self.caller.ok_or_else(missing)
    }

    /// When the answer is no longer of use.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The id of the request, for logs.
    pub fn request_id(&self) -> &HeaderValue {
        &self.request_id
    }

    /// The id of the trace, for logs; empty when the request is not traced.
    pub fn trace_id(&self) -> &str {
        let parent = self.trace.get("traceparent").and_then(|value| value.to_str().ok());
        parent.and_then(|value| value.split('-').nth(1)).filter(|id| id.len() == 32).unwrap_or_default()
    }

    /// The trace parent, to be kept with an event.
    pub fn traceparent(&self) -> Option<&str> {
        self.trace.get("traceparent").and_then(|value| value.to_str().ok())
    }

    /// The headers that every call made for this request carries.
    pub fn passed_on(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> {
        self.trace.iter().chain(std::iter::once((&REQUEST_ID, &self.request_id)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Cx {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let cx = parts.extensions.get::<Cx>().cloned();
        Ok(cx.unwrap_or_else(|| Cx::background(Duration::from_secs(10))))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get::<Cx>().cloned().unwrap_or_else(|| Cx::background(Duration::ZERO)).caller()
    }
}

fn caller(headers: &HeaderMap) -> Option<Caller> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let id = text(USER_ID)?.parse().ok()?;
    Some(Caller { id, role: text(USER_ROLE).map_or(Role::Customer, Role::parse) })
}

fn new_request_id() -> HeaderValue {
    HeaderValue::try_from(Uuid::new_v4().to_string()).expect("a UUID is printable ASCII")
}

/// Reads `grpc-timeout`: at most 8 digits and a unit.
fn grpc_timeout(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 = if digits.len() <= 8 { digits.parse().ok()? } else { return None };
    match text.strip_prefix(digits)? {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn cx(headers: &[(&'static str, &str)]) -> Cx {
        cx_at(Instant::now(), headers)
    }

    fn cx_at(now: Instant, headers: &[(&'static str, &str)]) -> Cx {
        let headers =
            headers.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_str(v).unwrap()));
        Cx::new(&headers.collect(), now, Duration::from_secs(10))
    }

    #[test]
    fn the_shorter_deadline_wins() {
        for (timeout, expect) in [
            ("2S", 2000),
            ("250m", 250),
            ("1M", 10_000),
            ("x", 10_000),
            ("5", 10_000),
            ("999999999S", 10_000),
        ] {
            let now = Instant::now();
            let left = cx_at(now, &[("grpc-timeout", timeout)]).deadline() - now;
            assert_eq!(left, Duration::from_millis(expect), "{timeout}");
        }
    }

    #[test]
    fn trace_headers_and_the_request_id_are_passed_on_and_nothing_else() {
        let cx =
            cx(&[("traceparent", TRACE), ("baggage", "a=1"), ("x-request-id", "r1"), ("cookie", "secret")]);
        let names: Vec<_> = cx.passed_on().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["traceparent", "baggage", "x-request-id"]);
        assert_eq!(cx.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(cx.traceparent(), Some(TRACE));
    }

    #[test]
    fn a_request_without_an_id_gets_one() {
        assert_eq!(cx(&[]).request_id().len(), 36);
    }

    #[test]
    fn only_owners_and_admins_pass() {
        let (me, other) = (Uuid::new_v4(), Uuid::new_v4());
        let customer = cx(&[("x-user-id", &me.to_string()), ("x-user-role", "root")]).caller().unwrap();
        assert!(customer.owner_or_admin(me).is_ok());
        assert_eq!(customer.owner_or_admin(other).unwrap_err().kind(), Kind::Forbidden);
        let admin = cx(&[("x-user-id", &other.to_string()), ("x-user-role", "admin")]).caller().unwrap();
        assert!(admin.owner_or_admin(me).is_ok());
        assert_eq!(cx(&[("x-user-id", "1; drop table")]).caller().unwrap_err().kind(), Kind::Unauthenticated);
    }
}
