//! The routes: a room's WebSocket, its history, and who is in it. Every user may enter every room.

use std::sync::Arc;

use axum::{Json as JsonBody, Router, extract::State, response::Response, routing::get};
use serde::{Deserialize, Serialize};
use shop_kit::{
    cx::Caller,
    errors::{FieldError, Kind, Problem},
    extract::{Path, Query},
};

use super::guest::Visitor;
use crate::{
    chat::Chat,
    connection::{self, Guest},
    domain::{
        frame::{Message, MessageId, Person},
        room::Room,
    },
    socket::Upgrade,
    store::Standing,
};

const DEFAULT_LIMIT: i64 = 50;
const LARGEST_LIMIT: i64 = 200;

type App = State<Arc<Chat>>;

/// The routes.
pub fn router(chat: Arc<Chat>) -> Router {
    Router::new()
        .route("/chat/rooms/{room}/ws", get(connect))
        .route("/chat/rooms/{room}/messages", get(history))
        .route("/chat/rooms/{room}/people", get(people))
        .with_state(chat)
}

#[derive(Deserialize)]
struct From {
    after: Option<MessageId>,
}

async fn connect(
    State(chat): App,
    Visitor { person, expires }: Visitor,
    Path(room): Path<String>,
    Query(from): Query<From>,
    upgrade: Upgrade,
) -> Result<Response, Problem> {
    let room = room_of(&room)?;
    if from.after.is_some_and(|after| after < MessageId::default()) {
        return Err(Problem::invalid(vec![FieldError::new("after", "is at least 0")]));
    }
    let unknown = |_| Problem::new(Kind::Unavailable, "unavailable", "the room cannot be entered now");
    let membership = chat.rooms.join(&room).await.map_err(unknown)?;
    let stored = chat.store.standing(&room, person.user).await?;
    let acked = stored.acked.max(chat.acknowledged.waiting(&room, person.user));
    let standing = Standing { acked, ..stored };
    // An id that is not there yet is no reason to leave anything out later.
    let after = from.after.or(acked).unwrap_or(standing.last).min(standing.last);
    let guest = Guest { person, expires, membership, standing, after };
    let (answer, socket) = upgrade.accept();
    let service = chat.service.clone();
    service.linger(async move {
        if let Some(socket) = socket.await {
            Box::pin(connection::serve(chat, guest, socket)).await;
        }
    });
    Ok(answer)
}

#[derive(Deserialize)]
struct Part {
    before: Option<MessageId>,
    after: Option<MessageId>,
    limit: Option<i64>,
}

/// Messages of a room, oldest first.
#[derive(Serialize)]
struct History {
    items: Vec<Message>,
    /// Whether there are more in the direction that was asked for.
    more: bool,
}

async fn history(
    State(chat): App,
    _: Caller,
    Path(room): Path<String>,
    Query(part): Query<Part>,
) -> Result<JsonBody<History>, Problem> {
    let room = room_of(&room)?;
    let limit = part.limit.unwrap_or(DEFAULT_LIMIT);
    let mut wrong = Vec::new();
    if !(1..=LARGEST_LIMIT).contains(&limit) {
        wrong.push(FieldError::new("limit", format!("is 1 to {LARGEST_LIMIT}")));
    }
    if part.before.is_some() && part.after.is_some() {
        wrong.push(FieldError::new("after", "is not for use together with before"));
    }
    if !wrong.is_empty() {
        return Err(Problem::invalid(wrong));
    }
    let forward = part.after.is_some();
    // One more than asked for tells whether there are more.
    let mut items = match part.after {
        Some(after) => chat.store.after(&room, after, limit + 1).await?,
        None => chat.store.before(&room, part.before, limit + 1).await?,
    };
    let limit = usize::try_from(limit).unwrap_or_default();
    let more = items.len() > limit;
    if more && forward {
        items.truncate(limit);
    } else if more {
        items.remove(0);
    }
    Ok(JsonBody(History { items, more }))
}

/// Who is in a room.
#[derive(Serialize)]
struct People {
    items: Vec<Person>,
    count: u64,
}

async fn people(State(chat): App, _: Caller, Path(room): Path<String>) -> Result<JsonBody<People>, Problem> {
    let unavailable = |error: redis::RedisError| Problem::unavailable("presence", &error);
    let present = chat.presence.list(&room_of(&room)?).await.map_err(unavailable)?;
    Ok(JsonBody(People { items: present.people, count: present.count }))
}

fn room_of(name: &str) -> Result<Room, Problem> {
    let detail = "a room has a name of 1 to 64 of a-z, 0-9, - and _, a letter or digit first";
    Room::parse(name).ok_or_else(|| Problem::new(Kind::NotFound, "not-found", detail))
}
