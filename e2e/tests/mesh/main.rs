//! Every feature of the data plane, through real proxies in this process: one module per feature.
#![expect(clippy::unwrap_used, reason = "test code")]

mod authorization;
mod balancing;
mod gateway;
mod hygiene;
mod jwt;
mod lifecycle;
mod mtls;
mod passthrough;
mod protocols;
mod resilience;
mod telemetry;

use weft_e2e::apps::http::HttpApp;
use weft_e2e::manifest::service;
use weft_e2e::mesh::Mesh;

/// A product service that order may call, and what a test adds to product's spec.
fn product(extra: &str) -> String {
    service("product", extra) + &service("order", "")
}

/// Name of the destination that most tests call.
const PRODUCT: &str = "shop/product:http";

/// Order calling one product, whose application is returned.
async fn order_and_product(extra: &str) -> (Mesh, HttpApp) {
    let app = HttpApp::start("product").await;
    let mut mesh = Mesh::new(&product(extra));
    mesh.add("product-0", &[("http", app.addr)]);
    mesh.add("order-0", &[]);
    (mesh, app)
}
