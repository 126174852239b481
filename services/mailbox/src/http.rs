//! `GET /messages?channel=&to=` shows what came; `POST /sms` and `POST /push` take messages as a provider does: 202, and
//! the same message again under the same idempotency key is the same message.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Query, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::json;
use time::OffsetDateTime;
use tracing::info;

use crate::messages::{Channel, Filter, Message, Messages, bounces};

const LARGEST: usize = 64 * 1024;

/// The routes.
pub fn router(messages: Arc<Messages>) -> Router {
    let sms = async |messages, headers, body| accept(&messages, Channel::Sms, &headers, body);
    let push = async |messages, headers, body| accept(&messages, Channel::Push, &headers, body);
    Router::new()
        .route("/health", get(async || Json(json!({"status": "UP", "ready": true}))))
        .route("/messages", get(show))
        .route("/sms", post(sms))
        .route("/push", post(push))
        .layer(DefaultBodyLimit::max(LARGEST))
        .with_state(messages)
}

async fn show(State(messages): State<Arc<Messages>>, Query(filter): Query<Filter>) -> Json<Vec<Message>> {
    Json(messages.find(&filter))
}

#[derive(Deserialize)]
struct Posted {
    to: String,
    #[serde(default)]
    title: String,
    text: String,
}

fn accept(
    State(messages): &State<Arc<Messages>>,
    channel: Channel,
    headers: &HeaderMap,
    Json(posted): Json<Posted>,
) -> Response {
    let Some(id) = headers.get("idempotency-key").and_then(|key| key.to_str().ok()) else {
        return (StatusCode::BAD_REQUEST, "send an Idempotency-Key").into_response();
    };
    if bounces(&posted.to) {
        return (StatusCode::UNPROCESSABLE_ENTITY, "there is nobody of that address").into_response();
    }
    let Posted { to, title, text } = posted;
    let message = Message {
        channel,
        id: id.to_owned(),
        from: String::new(),
        to: vec![to],
        subject: title,
        text,
        time: now(),
        deliveries: 1,
    };
    taken(messages, message);
    StatusCode::ACCEPTED.into_response()
}

/// Keeps a message and says so.
pub(crate) fn taken(messages: &Messages, message: Message) {
    let Message { channel, id, to, subject, .. } = message.clone();
    let deliveries = messages.add(message);
    info!(?channel, id, to = to.join(","), subject, deliveries, "message");
}

/// Now.
pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}
