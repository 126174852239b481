//! What a caller is told when a request fails: RFC 9457 problem details over HTTP, a status over gRPC.
//!
//! Services turn the errors of their domain into a [`Problem`] at the edge of their API; [`Kind`] fixes HTTP status
//! and gRPC code once for all of them. The cause is logged here and never leaves the service.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use tonic::Code;
use tracing::{error, warn};

/// What went wrong, as far as the caller can act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request cannot be read.
    Malformed,
    /// The request was understood and cannot be accepted.
    Invalid,
    /// Nobody is logged in, or the login is wrong.
    Unauthenticated,
    /// The caller may not do this.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// The path is there and does not take this method.
    WrongMethod,
    /// There is such a thing already.
    Exists,
    /// The state of the thing does not allow this.
    Conflict,
    /// The body is larger than any valid request.
    TooLarge,
    /// The body is of a type that is not understood.
    UnsupportedType,
    /// The service cannot do it now and may be able to later.
    Unavailable,
    /// The deadline passed.
    Timeout,
    /// The service is at fault.
    Internal,
}

impl Kind {
    /// The HTTP status of this kind.
    pub fn status(self) -> StatusCode {
        match self {
            Kind::Malformed => StatusCode::BAD_REQUEST,
            Kind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::WrongMethod => StatusCode::METHOD_NOT_ALLOWED,
            Kind::Exists | Kind::Conflict => StatusCode::CONFLICT,
            Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::UnsupportedType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The gRPC code of this kind.
    pub fn code(self) -> Code {
        match self {
            Kind::Malformed | Kind::Invalid | Kind::UnsupportedType => Code::InvalidArgument,
            Kind::Unauthenticated => Code::Unauthenticated,
            Kind::Forbidden => Code::PermissionDenied,
            Kind::NotFound => Code::NotFound,
            Kind::WrongMethod => Code::Unimplemented,
            Kind::Exists => Code::AlreadyExists,
            Kind::Conflict => Code::FailedPrecondition,
            Kind::TooLarge => Code::ResourceExhausted,
            Kind::Unavailable => Code::Unavailable,
            Kind::Timeout => Code::DeadlineExceeded,
            Kind::Internal => Code::Internal,
        }
    }
}

/// A field that cannot be accepted, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// Path of the field in the body, such as `items[0].quantity`.
    pub field: String,
    /// What is wrong and what to send instead.
    pub message: String,
}

impl FieldError {
    /// The field and what is wrong with it.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// A failed request.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{slug}: {detail}")]
pub struct Problem {
    kind: Kind,
    slug: &'static str,
    detail: String,
    fields: Vec<FieldError>,
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

impl Problem {
    /// A problem of a kind. The slug names it for programs (`out-of-stock`), the detail explains it to people.
    pub fn new(kind: Kind, slug: &'static str, detail: impl Into<String>) -> Self {
        Self { kind, slug, detail: detail.into(), fields: Vec::new() }
    }

    /// One or more fields that cannot be accepted.
    pub fn invalid(fields: Vec<FieldError>) -> Self {
        let detail =
            fields.iter().map(|f| format!("{}: {}", f.field, f.message)).collect::<Vec<_>>().join("; ");
        Self { kind: Kind::Invalid, slug: "invalid", detail, fields }
    }

    /// The service's own fault: the cause is logged, the caller learns nothing of it.
    pub fn internal(cause: &dyn std::error::Error) -> Self {
        error!(error = %chain(cause), "request failed");
        Self::new(
            Kind::Internal,
            "internal",
            "the service failed; the request id finds the reason in its log",
        )
    }

    /// Something the service needs is not there; the cause is logged.
    pub fn unavailable(what: &str, cause: &dyn std::error::Error) -> Self {
        warn!(error = %chain(cause), what, "unavailable");
        Self::new(Kind::Unavailable, "unavailable", format!("{what} cannot be reached; try again later"))
    }

    /// The deadline passed.
    pub fn timeout() -> Self {
        Self::new(Kind::Timeout, "timeout", "the deadline passed before there was an answer")
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What is wrong, for people.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The name of the problem for programs.
    pub fn slug(&self) -> &'static str {
        self.slug
    }
}

/// An error and its causes in one line. A cause that the text has in it already is not said again.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = cause.source();
    }
    text
}

impl From<Problem> for tonic::Status {
    fn from(problem: Problem) -> Self {
        tonic::Status::new(problem.kind.code(), problem.detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.kind.status();
        let body = Body {
            r#type: format!("urn:problem:shop:{}", self.slug),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: &self.detail,
            errors: &self.fields,
        };
        let body = serde_json::to_vec(&body).expect("strings and numbers always serialize");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self.kind {
            Kind::Unauthenticated => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"shop\""));
            }
            Kind::Unavailable => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Io(_) => {
                Problem::unavailable("the database", &error)
            }
            // Classes 08 (connection), 53 (out of resources), 57P (operator intervention) and the state 55000 (takes no
            // connections): the server is going, or not there yet.
            sqlx::Error::Database(inner)
                if inner.code().is_some_and(|c| {
                    ["08", "53", "57P", "55000"].iter().any(|class| c.starts_with(class))
                }) =>
            {
                Problem::unavailable("the database", &error)
            }
            _ => Problem::internal(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn invalid_fields_are_named_in_problem_json() {
        let problem = Problem::invalid(vec![FieldError::new("email", "is not an e-mail address")]);
        let response = problem.into_response();
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["type"], "urn:problem:shop:invalid");
        assert_eq!(body["errors"][0]["field"], "email");
    }

    #[test]
    fn the_cause_of_an_internal_error_stays_inside() {
        let problem = Problem::internal(&std::io::Error::other("password of the database"));
        let status = tonic::Status::from(problem);
        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("password"));
    }

    #[test]
    fn a_closed_pool_is_unavailable_and_a_missing_row_is_our_fault() {
        assert_eq!(Problem::from(sqlx::Error::PoolTimedOut).kind(), Kind::Unavailable);
        assert_eq!(Problem::from(sqlx::Error::RowNotFound).kind(), Kind::Internal);
    }
}
