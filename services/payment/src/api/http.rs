//! The JSON API. A customer sees their own payments, an admin all, what they are for, and may refund; the provider calls
//! back.

use std::sync::Arc;

use ::http::HeaderMap;
use axum::{
    Json as JsonBody, Router,
    body::Bytes,
    extract::State,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shop_kit::{
    clock,
    cx::{Caller, Cx, Role},
    errors::Problem,
    extract::{Path, Query},
    page::{Listed, Page},
    purpose::Purpose,
    service::Service,
};
use uuid::Uuid;

use crate::{
    domain::{Payments, payment::Payment},
    purpose::Purposes,
    signature,
};

type App = State<(Arc<Payments>, Arc<Service>)>;
type Asking = State<(Arc<Payments>, Arc<Purposes>)>;

/// The routes.
pub fn router(payments: Arc<Payments>, service: Arc<Service>, purposes: Purposes) -> Router {
    let asking = Router::new()
        .route("/payments/{id}/purpose", get(purpose))
        .with_state((payments.clone(), Arc::new(purposes)));
    Router::new()
        .route("/payments", get(list))
        .route("/payments/callback", post(callback))
        .route("/payments/{id}", get(show))
        .route("/payments/{id}/refund", post(refund))
        .with_state((payments, service))
        .merge(asking)
}

#[derive(Deserialize)]
struct Paging {
    page: Option<u32>,
    per_page: Option<u32>,
}

async fn list(
    State((payments, _)): App,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Result<JsonBody<Listed<Payment>>, Problem> {
    let page = Page::new(paging.page, paging.per_page)?;
    let (found, total) = payments.list(caller.id, page).await?;
    Ok(JsonBody(page.of(found, total)))
}

async fn show(
    State((payments, _)): App,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<JsonBody<Payment>, Problem> {
    let owner = match caller.role {
        Role::Customer => Some(caller.id),
        Role::Admin => None,
    };
    Ok(JsonBody(payments.get(id, owner).await?))
}

/// What a payment is for.
#[derive(Serialize)]
struct PurposeOf {
    reference: String,
    #[serde(flatten)]
    purpose: Purpose,
}

async fn purpose(
    State((payments, purposes)): Asking,
    cx: Cx,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<JsonBody<PurposeOf>, Problem> {
    caller.admin()?;
    let payment = payments.get(id, None).await?;
    let purpose = purposes.of(&cx, &payment).await?;
    Ok(JsonBody(PurposeOf { reference: payment.reference, purpose }))
}

async fn refund(
    State((payments, service)): App,
    cx: Cx,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> Result<JsonBody<Payment>, Problem> {
    caller.admin()?;
    let reference = payments.get(id, None).await?.reference;
    let refunded = service.finish(async move { payments.take_back(&cx, &reference).await }).await?;
    Ok(JsonBody(refunded?))
}

/// The body as it came, since that is what was signed. A callback that was heard before is told so, with 200: the
/// provider is to stop sending it.
async fn callback(
    State((payments, _)): App,
    headers: HeaderMap,
    body: Bytes,
) -> Result<JsonBody<Value>, Problem> {
    let signature = headers.get(signature::HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let new = payments.hear(signature, &body, clock::now()).await?;
    Ok(JsonBody(json!({"heard": if new { "now" } else { "before" }})))
}
