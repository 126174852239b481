//! The JSON API. Who may add products and change stocks is a rule of the mesh (role admin).

use std::sync::Arc;

use ::http::{HeaderMap, StatusCode, header};
use axum::{
    Json as JsonBody, Router,
    extract::State,
    response::IntoResponse,
    routing::{get, patch},
};
use serde::Deserialize;
use shop_kit::{
    cx::Cx,
    errors::Problem,
    extract::{Json, Path, Query},
    page::{Listed, Page},
};
use uuid::Uuid;

use crate::domain::{
    Products,
    product::{NewProduct, Product, StockChange},
};

type App = State<Arc<Products>>;

/// The routes.
pub fn router(products: Arc<Products>) -> Router {
    Router::new()
        .route("/products", get(search).post(add))
        .route("/products/{id}", get(show))
        .route("/products/{id}/stock", patch(update_stock))
        .with_state(products)
}

#[derive(Deserialize)]
struct Search {
    #[serde(default)]
    query: String,
    page: Option<u32>,
    per_page: Option<u32>,
}

async fn search(
    State(products): App,
    Query(search): Query<Search>,
) -> Result<JsonBody<Listed<Product>>, Problem> {
    let page = Page::new(search.page, search.per_page)?;
    let (found, total) = products.search(&search.query, page).await?;
    Ok(JsonBody(page.of(found, total)))
}

async fn show(State(products): App, Path(id): Path<Uuid>) -> Result<JsonBody<Product>, Problem> {
    Ok(JsonBody(products.get(id).await?))
}

async fn add(State(products): App, Json(input): Json<NewProduct>) -> Result<impl IntoResponse, Problem> {
    let product = products.add(input).await?;
    // Relative, so that it holds behind a gateway that puts something before the path.
    let location = format!("products/{}", product.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], JsonBody(product)))
}

#[derive(Deserialize)]
struct Delta {
    delta: i64,
}

/// The header Idempotency-Key names the operation.
async fn update_stock(
    State(products): App,
    cx: Cx,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
    Json(Delta { delta }): Json<Delta>,
) -> Result<JsonBody<Product>, Problem> {
    let key =
        headers.get("idempotency-key").map(|key| format!("http/{}", String::from_utf8_lossy(key.as_bytes())));
    let change = StockChange { product_id: id, delta, operation: key, revoke: false };
    Ok(JsonBody(products.update_stock(change, cx.deadline()).await?))
}
