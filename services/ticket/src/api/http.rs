//! The JSON API. Anybody sees the events; a customer reserves, buys and cancels their own tickets; an admin adds events,
//! sees all tickets and has both stores compared.

use std::sync::Arc;

use ::http::{HeaderMap, StatusCode, header};
use axum::{
    Json as JsonBody, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::{get, post},
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

use crate::{
    domain::{
        Tickets,
        sale::{NewSale, Sale},
        ticket::{Status, Ticket, check_method},
    },
    redis::{audit::Report, queue::Place},
};

type App = State<(Arc<Tickets>, Arc<Service>)>;

/// The routes.
pub fn router(tickets: Arc<Tickets>, service: Arc<Service>) -> Router {
    Router::new()
        .route("/tickets/events", get(list_events).post(add_event))
        .route("/tickets/events/{id}", get(show_event))
        .route("/tickets/events/{id}/reservations", post(reserve))
        .route("/tickets/events/{id}/purchases", post(buy))
        .route("/tickets/events/{id}/queue", get(place).post(join))
        .route("/tickets/events/{id}/reconciliation", get(compare).post(reconcile))
        .route("/tickets", get(list))
        .route("/tickets/{id}", get(show))
        .route("/tickets/{id}/purchase", post(purchase))
        .route("/tickets/{id}/cancel", post(cancel))
        .with_state((tickets, service))
}

#[derive(Deserialize)]
struct Paging {
    page: Option<u32>,
    per_page: Option<u32>,
}

async fn list_events(
    State((tickets, _)): App,
    Query(paging): Query<Paging>,
) -> Result<JsonBody<Listed<Sale>>, Problem> {
    let page = Page::new(paging.page, paging.per_page)?;
    let (found, total) = tickets.sales(page).await?;
    Ok(JsonBody(page.of(found, total)))
}

async fn add_event(
    State((tickets, _)): App,
    caller: Caller,
    Json(input): Json<NewSale>,
) -> Result<impl IntoResponse, Problem> {
    caller.admin()?;
    let sale = tickets.add(input).await?;
    // Relative, so that it holds behind a gateway that puts something before the path.
    let location = format!("events/{}", sale.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], JsonBody(Sale::clone(&sale))))
}

/// An event with what is left of it.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    sale: Sale,
    left: i64,
}

async fn show_event(State((tickets, _)): App, Path(id): Path<Uuid>) -> Result<JsonBody<Shown>, Problem> {
    let sale = tickets.sale(id).await?;
    let left = tickets.left(&sale).await?;
    Ok(JsonBody(Shown { sale: Sale::clone(&sale), left }))
}

#[derive(Deserialize)]
struct NewReservation {
    #[serde(default = "one")]
    quantity: i64,
}

fn one() -> i64 {
    1
}

async fn reserve(
    State((tickets, service)): App,
    caller: Caller,
    Path(event): Path<Uuid>,
    headers: HeaderMap,
    Json(input): Json<NewReservation>,
) -> Result<Response, Problem> {
    let key = idempotency_key(&headers)?;
    let sale = tickets.sale(event).await?;
    // A customer who goes away leaves no reservation half made.
    let reserved = async move { tickets.reserve(&sale, caller.id, input.quantity, key.as_deref()).await };
    let got = service.finish(reserved).await??;
    Ok(created(got.ticket))
}

#[derive(Deserialize)]
struct NewPurchase {
    #[serde(default = "one")]
    quantity: i64,
    method: String,
}

async fn buy(
    State((tickets, service)): App,
    cx: Cx,
    Path(event): Path<Uuid>,
    headers: HeaderMap,
    Json(input): Json<NewPurchase>,
) -> Result<Response, Problem> {
    let caller = cx.caller()?;
    let key = idempotency_key(&headers)?;
    check_method(&input.method).map_err(crate::domain::Error::from)?;
    let sale = tickets.sale(event).await?;
    let bought = async move {
        let got = tickets.reserve(&sale, caller.id, input.quantity, key.as_deref()).await?;
        tickets.buy(&cx, &sale, got, &input.method).await
    };
    Ok(created(service.finish(bought).await??))
}

/// A ticket that was asked for: made, or still on its way.
fn created(ticket: Ticket) -> Response {
    let status = if ticket.status == Status::Paying { StatusCode::ACCEPTED } else { StatusCode::CREATED };
    let location = format!("../../{}", ticket.id);
    (status, [(header::LOCATION, location)], JsonBody(ticket)).into_response()
}

/// A ticket that was changed, or is being changed.
fn changed(ticket: Ticket) -> Response {
    let open = matches!(ticket.status, Status::Paying | Status::Refunding);
    (if open { StatusCode::ACCEPTED } else { StatusCode::OK }, JsonBody(ticket)).into_response()
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let text = |value: &::http::HeaderValue| value.to_str().map(str::to_owned);
    let bad = |_| Problem::invalid(vec![FieldError::new("Idempotency-Key", "is not plain text")]);
    headers.get("idempotency-key").map(text).transpose().map_err(bad)
}

async fn join(
    State((tickets, _)): App,
    caller: Caller,
    Path(event): Path<Uuid>,
) -> Result<JsonBody<Place>, Problem> {
    Ok(JsonBody(tickets.join(event, caller.id).await?))
}

async fn place(
    State((tickets, _)): App,
    caller: Caller,
    Path(event): Path<Uuid>,
) -> Result<JsonBody<Place>, Problem> {
    Ok(JsonBody(tickets.place(event, caller.id).await?))
}

async fn compare(
    State((tickets, _)): App,
    caller: Caller,
    Path(event): Path<Uuid>,
) -> Result<JsonBody<Report>, Problem> {
    caller.admin()?;
    Ok(JsonBody(tickets.compare(event).await?))
}

async fn reconcile(
    State((tickets, service)): App,
    caller: Caller,
    Path(event): Path<Uuid>,
) -> Result<JsonBody<Report>, Problem> {
    caller.admin()?;
    let report = service.finish(async move { tickets.reconcile_one(event).await }).await?;
    Ok(JsonBody(report?))
}

async fn list(
    State((tickets, _)): App,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Result<JsonBody<Listed<Ticket>>, Problem> {
    let page = Page::new(paging.page, paging.per_page)?;
    let (found, total) = tickets.tickets(caller.id, page).await?;
    Ok(JsonBody(page.of(found, total)))
}

async fn show(
    State((tickets, _)): App,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<JsonBody<Ticket>, Problem> {
    Ok(JsonBody(tickets.ticket(id, owner(caller)).await?))
}

#[derive(Deserialize)]
struct Means {
    method: String,
}

async fn purchase(
    State((tickets, service)): App,
    cx: Cx,
    caller: Caller,
    Path(id): Path<Uuid>,
    Json(input): Json<Means>,
) -> Result<Response, Problem> {
    let bought = async move { tickets.purchase(&cx, caller.id, id, &input.method).await };
    Ok(changed(service.finish(bought).await??))
}

async fn cancel(
    State((tickets, service)): App,
    cx: Cx,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<Response, Problem> {
    let cancelled = async move { tickets.cancel(&cx, id, owner(caller)).await };
    Ok(changed(service.finish(cancelled).await??))
}

/// Whose tickets the caller sees: their own, or all.
fn owner(caller: Caller) -> Option<Uuid> {
    match caller.role {
        Role::Customer => Some(caller.id),
        Role::Admin => None,
    }
}
