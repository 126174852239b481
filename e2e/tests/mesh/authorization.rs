//! Authorization rules: by caller, request and claims; the rule is named where operators look and nowhere else.

use weft_e2e::apps::http::HttpApp;
use weft_e2e::client::{get, get_with_token, request, send};
use weft_e2e::manifest::service;
use weft_e2e::mesh::Mesh;
use weft_e2e::tokens::{AUDIENCE, ISSUER, Issuer};

use crate::{PRODUCT, order_and_product, product};

#[tokio::test]
async fn what_no_rule_allows_is_refused_under_deny() {
    let spec = "  authorization:
    default: Deny
    rules:
    - {name: readers, from: {services: [order]}, to: {methods: [GET], paths: [\"/products*\"]}}";
    let (mesh, app) = order_and_product(spec).await;
    let outbound = mesh.outbound("order-0", PRODUCT);
    assert_eq!(get(outbound, "/products/1").await.status, 200);
    let path = get(outbound, "/admin").await;
    assert_eq!((path.status.as_u16(), path.reason()), (403, "forbidden"));
    let method = send(outbound, request("POST", "/products").body("".into()).unwrap()).await;
    assert_eq!(method.status, 403);
    assert!(!method.text().contains("readers"), "the client is not told the rules");
    assert_eq!(app.count(), 1);
}

#[tokio::test]
async fn another_service_is_refused() {
    let spec = "  authorization:
    default: Deny
    rules:
    - {name: users-only, from: {services: [user]}}";
    let app = HttpApp::start("product").await;
    let mut mesh = Mesh::new(&(product(spec) + &service("user", "")));
    mesh.add("product-0", &[("http", app.addr)]);
    mesh.add("order-0", &[]);
    mesh.add("user-0", &[]);
    assert_eq!(get(mesh.outbound("order-0", PRODUCT), "/x").await.status, 403);
    assert_eq!(get(mesh.outbound("user-0", PRODUCT), "/x").await.status, 200);
}

#[tokio::test]
async fn a_deny_rule_wins_over_every_allow_rule() {
    let spec = "  authorization:
    default: Deny
    rules:
    - {name: all, from: {services: [order]}}
    - {name: no-admin, action: Deny, to: {paths: [\"/admin*\"]}}";
    let (mesh, _app) = order_and_product(spec).await;
    let outbound = mesh.outbound("order-0", PRODUCT);
    assert_eq!(get(outbound, "/x").await.status, 200);
    assert_eq!(get(outbound, "/admin/users").await.status, 403);
    assert_eq!(get(outbound, "/x/../admin").await.status, 403);
    assert_eq!(get(outbound, "/%61dmin").await.status, 403);
}

#[tokio::test]
async fn a_role_in_the_token_opens_what_another_does_not() {
    let issuer = Issuer::new("k1");
    let spec = format!(
        "  authentication:
    jwt: [{{issuer: {ISSUER}, audiences: [{AUDIENCE}], jwks: {{inline: '{}'}}}}]
  authorization:
    default: Deny
    rules:
    - {{name: admins, to: {{methods: [GET]}}, when: {{claims: {{role: [admin]}}}}}}",
        issuer.jwks()
    );
    let (mesh, _app) = order_and_product(&spec).await;
    let outbound = mesh.outbound("order-0", PRODUCT);
    assert_eq!(get_with_token(outbound, "/x", &issuer.token("u1", "admin")).await.status, 200);
    assert_eq!(get_with_token(outbound, "/x", &issuer.token("u1", "customer")).await.status, 403);
}

#[tokio::test]
async fn audit_refuses_nothing_and_counts_what_it_would_have() {
    let spec = "  authorization: {default: Deny, rules: [], audit: true}";
    let (mesh, _app) = order_and_product(spec).await;
    assert_eq!(get(mesh.outbound("order-0", PRODUCT), "/x").await.status, 200);
    let metrics = get(mesh.page("product-0", "metrics"), "/metrics").await.text();
    assert!(metrics.lines().any(|line| line.contains("audit") && line.ends_with(" 1")), "{metrics}");
}
