//! The JSON API. A customer sees and cancels their own orders, an admin all; only an admin moves them on.

use std::sync::Arc;

use ::http::{HeaderMap, StatusCode, header};
use axum::{
    Json as JsonBody, Router,
    extract::State,
    response::IntoResponse,
    routing::{get, patch, post},
};
use serde::{Deserialize, Serialize};
use shop_kit::{
    cx::{Caller, Cx, Role},
    errors::{FieldError, Problem},
    extract::{Json, Path, Query},
    page::{Listed, Page},
    service::Service,
};
use uuid::Uuid;

use crate::domain::{
    Error, Orders,
    history::Recorded,
    order::{Draft, Order, Status},
};

type App = State<(Arc<Orders>, Arc<Service>)>;

/// The routes.
pub fn router(orders: Arc<Orders>, service: Arc<Service>) -> Router {
    Router::new()
        .route("/orders", get(list).post(place))
        .route("/orders/{id}", get(show))
        .route("/orders/{id}/cancel", post(cancel))
        .route("/orders/{id}/history", get(history))
        .route("/orders/{id}/pay", post(pay))
        .route("/orders/{id}/status", patch(change_status))
        .with_state((orders, service))
}

#[derive(Deserialize)]
struct NewOrder {
    items: Vec<NewItem>,
    payment: Option<NewPayment>,
}

#[derive(Deserialize)]
struct NewPayment {
    method: String,
}

#[derive(Deserialize)]
struct NewItem {
    product_id: Uuid,
    quantity: u32,
}

async fn place(
    State((orders, service)): App,
    cx: Cx,
    caller: Caller,
    headers: HeaderMap,
    Json(input): Json<NewOrder>,
) -> Result<impl IntoResponse, Problem> {
    let draft = Draft {
        user_id: caller.id,
        items: input.items.into_iter().map(|item| (item.product_id, item.quantity)).collect(),
        key: idempotency_key(&headers)?,
        method: input.payment.map(|payment| payment.method),
    };
    // A customer who goes away must not leave an order half placed.
    let order = service.finish(async move { orders.place(&cx, draft).await }).await??;
    // Relative, so that it holds behind a gateway that puts something before the path.
    let location = format!("orders/{}", order.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], JsonBody(order)))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let text = |value: &::http::HeaderValue| value.to_str().map(str::to_owned);
    let bad = |_| Problem::invalid(vec![FieldError::new("Idempotency-Key", "is not plain text")]);
    headers.get("idempotency-key").map(text).transpose().map_err(bad)
}

#[derive(Deserialize)]
struct Paging {
    page: Option<u32>,
    per_page: Option<u32>,
}

async fn list(
    State((orders, _)): App,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Result<JsonBody<Listed<Order>>, Problem> {
    let page = Page::new(paging.page, paging.per_page)?;
    let (found, total) = orders.list(caller.id, page).await?;
    Ok(JsonBody(page.of(found, total)))
}

async fn show(
    State((orders, _)): App,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<JsonBody<Order>, Problem> {
    Ok(JsonBody(orders.get(id, owner(caller)).await?))
}

async fn pay(
    State((orders, service)): App,
    cx: Cx,
    caller: Caller,
    Path(id): Path<Uuid>,
    Json(input): Json<NewPayment>,
) -> Result<JsonBody<Order>, Problem> {
    let paid = async move { orders.pay(&cx, id, owner(caller), &input.method).await };
    Ok(JsonBody(service.finish(paid).await??))
}

#[derive(Serialize)]
struct History {
    items: Vec<Recorded>,
    order: Order,
}

async fn history(
    State((orders, _)): App,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<JsonBody<History>, Problem> {
    let (items, order) = orders.history(id, owner(caller)).await?;
    Ok(JsonBody(History { items, order }))
}

async fn cancel(
    State((orders, service)): App,
    cx: Cx,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<JsonBody<Order>, Problem> {
    let cancelled = service.finish(async move { orders.cancel(&cx, id, owner(caller)).await }).await?;
    Ok(JsonBody(cancelled?))
}

#[derive(Deserialize)]
struct NewStatus {
    status: String,
}

async fn change_status(
    State((orders, service)): App,
    cx: Cx,
    caller: Caller,
    Path(id): Path<Uuid>,
    Json(input): Json<NewStatus>,
) -> Result<JsonBody<Order>, Problem> {
    caller.admin()?;
    let status = Status::requested(&input.status).map_err(Error::from)?;
    let changed = service.finish(async move { orders.change_status(&cx, id, status).await }).await?;
    Ok(JsonBody(changed?))
}

/// Whose orders the caller sees: their own, or all.
fn owner(caller: Caller) -> Option<Uuid> {
    match caller.role {
        Role::Customer => Some(caller.id),
        Role::Admin => None,
    }
}
