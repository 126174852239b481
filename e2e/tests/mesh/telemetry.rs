//! What the proxies tell: metrics, trace headers, admin pages; and what they never tell.

use std::net::SocketAddr;

use bytes::Bytes;
use weft_e2e::client::{get, request, send};

use crate::{PRODUCT, order_and_product};

#[tokio::test]
async fn one_trace_passes_both_proxies_and_reaches_the_application() {
    let (mesh, _app) = order_and_product("").await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = request("GET", "/x").header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    let seen = send(mesh.outbound("order-0", PRODUCT), request.body(Bytes::new()).unwrap()).await.seen();
    let parent = &seen.headers["traceparent"];
    assert!(parent.starts_with(&format!("00-{trace}-")) && parent.ends_with("-01"), "{parent}");
    assert!(!parent.contains("00f067aa0ba902b7"), "each hop is a span of its own: {parent}");
}

#[tokio::test]
async fn requests_are_counted_on_both_sides_and_paths_are_never_a_label() {
    let (mesh, _app) = order_and_product("").await;
    for n in 0..3 {
        get(mesh.outbound("order-0", PRODUCT), &format!("/products/{n}")).await;
    }
    for instance in ["order-0", "product-0"] {
        let text = get(mesh.page(instance, "metrics"), "/metrics").await.text();
        let total: f64 = text
            .lines()
            .filter(|line| line.starts_with("weft_requests_total{"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum();
        assert!((total - 3.0).abs() < f64::EPSILON, "{instance}: {text}");
        assert!(!text.contains("/products"), "{instance}: {text}");
        assert!(text.contains("weft_certificate_expiry_seconds"), "{instance}: {text}");
    }
}

#[tokio::test]
async fn the_admin_pages_show_state_and_no_key() {
    let (mesh, _app) = order_and_product("").await;
    get(mesh.outbound("order-0", PRODUCT), "/x").await;
    let admin = mesh.page("order-0", "admin");
    for (page, expected) in [
        ("/config", "shop/product:http"),
        ("/endpoints", "15200"),
        ("/certs", "spiffe://"),
        ("/breakers", "["),
    ] {
        let answer = get(admin, page).await;
        assert_eq!(answer.status, 200, "{page}");
        assert!(answer.text().contains(expected), "{page}: {}", answer.text());
        assert!(!answer.text().contains("PRIVATE KEY"), "{page}");
    }
}

/// Calls for as long as this is polled.
async fn keep_calling(outbound: SocketAddr) {
    loop {
        get(outbound, "/orders/1").await;
        get(outbound, "/products").await;
    }
}

#[tokio::test]
async fn a_tap_shows_the_requests_that_it_asks_for_as_they_end() {
    let (mesh, _app) = order_and_product("").await;
    let (admin, outbound) = (mesh.page("order-0", "admin"), mesh.outbound("order-0", PRODUCT));
    let other = get(admin, "/tap?pathh=/x").await;
    assert_eq!(other.status, 400, "{}", other.text());
    let shown = tokio::select! {
        shown = get(admin, "/tap?path=/orders*&max=2&seconds=30") => shown.text(),
        () = keep_calling(outbound) => String::new(),
    };
    let lines: Vec<serde_json::Value> =
        shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line["path"] == "/orders/1" && line["status"] == 200), "{shown}");
}
