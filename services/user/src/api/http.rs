//! The JSON API. Own profile or role admin; `me` stands for the caller's id.

use std::sync::Arc;

use ::http::{StatusCode, header};
use axum::{
    Json as JsonBody, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::json;
use shop_kit::{
    cx::Caller,
    errors::{Kind, Problem},
    extract::{Json, Path},
};
use uuid::Uuid;

use crate::domain::{
    Users,
    user::{Change, Registration, User},
};

type App = State<Arc<Users>>;

/// The routes.
pub fn router(users: Arc<Users>) -> Router {
    Router::new()
        .route("/users", post(register))
        .route("/users/login", post(log_in))
        .route("/users/{id}", get(show).put(change).delete(delete))
        .route("/.well-known/jwks.json", get(keys))
        .with_state(users)
}

async fn register(State(users): App, Json(input): Json<Registration>) -> Result<impl IntoResponse, Problem> {
    let user = users.register(input).await?;
    // Relative, so that it holds behind a gateway that puts something before the path.
    let location = format!("users/{}", user.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], JsonBody(user)))
}

#[derive(Deserialize)]
struct Credentials {
    email: String,
    password: String,
}

async fn log_in(State(users): App, Json(input): Json<Credentials>) -> Result<impl IntoResponse, Problem> {
    let issued = users.log_in(&input.email, input.password).await?;
    let body = json!({
        "access_token": issued.token,
        "token_type": "Bearer",
        "expires_in": issued.lifetime.as_secs(),
    });
    // A token must not stay in any cache (RFC 6749, section 5.1).
    Ok(([(header::CACHE_CONTROL, "no-store")], JsonBody(body)))
}

async fn show(State(users): App, caller: Caller, Path(id): Path<String>) -> Result<JsonBody<User>, Problem> {
    Ok(JsonBody(users.get(permitted(caller, &id)?).await?))
}

async fn change(
    State(users): App,
    caller: Caller,
    Path(id): Path<String>,
    Json(input): Json<Change>,
) -> Result<JsonBody<User>, Problem> {
    Ok(JsonBody(users.change(permitted(caller, &id)?, input).await?))
}

async fn delete(State(users): App, caller: Caller, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    users.delete(permitted(caller, &id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn keys(State(users): App) -> Response {
    let headers =
        [(header::CACHE_CONTROL, "public, max-age=60"), (header::CONTENT_TYPE, "application/jwk-set+json")];
    (headers, JsonBody(users.tokens.keys().public()).into_response().into_body()).into_response()
}

/// The id in the path, if the caller may touch it.
fn permitted(caller: Caller, id: &str) -> Result<Uuid, Problem> {
    if id == "me" {
        return Ok(caller.id);
    }
    let id = id.parse().map_err(|_| Problem::new(Kind::NotFound, "not-found", "there is no such user"))?;
    caller.owner_or_admin(id)?;
    Ok(id)
}
