//! The JSON API: what a user was told, and how they want to be told.

use std::sync::Arc;

use axum::{Json as JsonBody, Router, extract::State, routing::get};
use serde::Deserialize;
use shop_kit::{
    cx::Caller,
    errors::Problem,
    extract::{Json, Query},
    page::{Listed, Page},
};

use crate::domain::{Notifications, message::Notification, preferences::Preferences};

type App = State<Arc<Notifications>>;

/// The routes.
pub fn router(notifications: Arc<Notifications>) -> Router {
    Router::new()
        .route("/notifications", get(list))
        .route("/notifications/preferences", get(preferences).put(prefer))
        .with_state(notifications)
}

#[derive(Deserialize)]
struct Paging {
    page: Option<u32>,
    per_page: Option<u32>,
}

async fn list(
    State(notifications): App,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Result<JsonBody<Listed<Notification>>, Problem> {
    let page = Page::new(paging.page, paging.per_page)?;
    let (found, total) = notifications.list(caller.id, page).await?;
    Ok(JsonBody(page.of(found, total)))
}

async fn preferences(State(notifications): App, caller: Caller) -> Result<JsonBody<Preferences>, Problem> {
    notifications.preferences(caller.id).await.map(JsonBody)
}

async fn prefer(
    State(notifications): App,
    caller: Caller,
    Json(preferences): Json<Preferences>,
) -> Result<JsonBody<Preferences>, Problem> {
    notifications.prefer(caller.id, preferences).await.map(JsonBody)
}
