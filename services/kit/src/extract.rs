//! Body, path and query of a request, with problem+json when they cannot be read.
//! Thin covers of axum's extractors, whose own refusals are plain text.

use axum::extract::{
    FromRequest, FromRequestParts, Request,
    rejection::{JsonRejection, PathRejection, QueryRejection},
};
use http::{StatusCode, request::Parts};
use serde::de::DeserializeOwned;

use crate::errors::{Kind, Problem};

/// The body as JSON.
#[derive(Debug)]
pub struct Json<T>(pub T);

/// The parts of the path.
#[derive(Debug)]
pub struct Path<T>(pub T);

/// The query string.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let read = axum::Json::<T>::from_request(request, state).await;
        read.map(|axum::Json(value)| Json(value)).map_err(|rejection: JsonRejection| {
            let (kind, slug) = match rejection.status() {
                StatusCode::UNSUPPORTED_MEDIA_TYPE => (Kind::UnsupportedType, "not-json"),
                StatusCode::PAYLOAD_TOO_LARGE => (Kind::TooLarge, "too-large"),
                StatusCode::UNPROCESSABLE_ENTITY => (Kind::Invalid, "invalid"),
                _ => (Kind::Malformed, "malformed"),
            };
            Problem::new(kind, slug, rejection.body_text())
        })
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        // An id that is no id names nothing: the answer is the same as for an id that is not there.
        let not_found =
            |_: PathRejection| Problem::new(Kind::NotFound, "not-found", "there is nothing of that id");
        read.map(|axum::extract::Path(value)| Path(value)).map_err(not_found)
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        let malformed =
            |rejection: QueryRejection| Problem::new(Kind::Malformed, "malformed", rejection.body_text());
        read.map(|axum::extract::Query(value)| Query(value)).map_err(malformed)
    }
}
