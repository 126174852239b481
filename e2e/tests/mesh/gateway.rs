//! The gateway: routes, filters, TLS, and the destination's token policy at the edge.

use std::sync::Arc;

use bytes::Bytes;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_e2e::apps::http::HttpApp;
use weft_e2e::client::{get, get_with_token, request, send, trusting};
use weft_e2e::manifest::{self, http_route, service};
use weft_e2e::mesh::Mesh;
use weft_e2e::tokens::{AUDIENCE, ISSUER, Issuer};

use crate::product;

/// The listener that most tests use.
const PLAIN: &str = "{name: http, port: 8080, protocol: HTTP}";

async fn gateway(extra: &str, rules: &str) -> (Mesh, HttpApp) {
    let app = HttpApp::start("product").await;
    let manifests = [product(extra), manifest::gateway(&[PLAIN]), http_route(rules)];
    let mut mesh = Mesh::new(&manifests.concat());
    mesh.add("product-0", &[("http", app.addr)]);
    mesh.add_gateway("public-0", &["http"]);
    (mesh, app)
}

const ALL: &str = "  - {backendRefs: [{name: product, port: 80}]}";

#[tokio::test]
async fn the_longest_prefix_wins_and_is_rewritten() {
    let rules = "  - matches: [{path: {type: PathPrefix, value: /api}}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-route, value: api}]}}]
    backendRefs: [{name: product, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /api/products}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /products}}}]
    backendRefs: [{name: product, port: 80}]";
    let (mesh, _app) = gateway("", rules).await;
    let edge = mesh.listener("public-0", "http");
    assert_eq!(get(edge, "/api/products/7?a=1").await.seen().path, "/products/7?a=1");
    assert_eq!(get(edge, "/api/products").await.seen().path, "/products");
    let other = get(edge, "/api/productsx").await.seen();
    assert_eq!((other.path.as_str(), other.headers["x-route"].as_str()), ("/api/productsx", "api"));
    let none = get(edge, "/elsewhere").await;
    assert_eq!((none.status.as_u16(), none.reason()), (404, "no-route"));
}

#[tokio::test]
async fn method_header_and_query_choose_the_route() {
    let rules = "  - matches: [{method: POST, headers: [{name: x-beta, value: \"1\"}], queryParams: [{name: v, value: \"2\"}]}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: x-hit, value: beta}]}}]
    backendRefs: [{name: product, port: 80}]
  - matches: [{path: {type: Exact, value: /exact}}]
    backendRefs: [{name: product, port: 80}]";
    let (mesh, _app) = gateway("", rules).await;
    let edge = mesh.listener("public-0", "http");
    let beta = request("POST", "/x?v=2").header("x-beta", "1").body(Bytes::new()).unwrap();
    assert_eq!(send(edge, beta).await.seen().headers["x-hit"], "beta");
    let not_beta = request("POST", "/x?v=3").header("x-beta", "1").body(Bytes::new()).unwrap();
    assert_eq!(send(edge, not_beta).await.status, 404);
    assert_eq!(get(edge, "/exact").await.status, 200);
    assert_eq!(get(edge, "/exact/").await.status, 404);
}

#[tokio::test]
async fn a_redirect_answers_without_a_backend() {
    let rules = "  - filters: [{type: RequestRedirect, requestRedirect: {scheme: https, hostname: shop.example, statusCode: 301}}]";
    let (mesh, app) = gateway("", rules).await;
    let answer = get(mesh.listener("public-0", "http"), "/a?b=1").await;
    assert_eq!(answer.status, 301);
    assert!(answer.header("location").starts_with("https://shop.example"), "{}", answer.header("location"));
    assert!(answer.header("location").ends_with("/a?b=1"), "{}", answer.header("location"));
    assert_eq!(app.count(), 0);
}

#[tokio::test]
async fn a_mirror_gets_a_copy_with_its_body_and_its_answer_is_nobodys() {
    let rules = "  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: shadow, port: 80}}}]
    backendRefs: [{name: product, port: 80}]";
    let app = HttpApp::start("product").await;
    let shadow = HttpApp::start("shadow").await;
    shadow.answer_with(500);
    let manifests = [product(""), service("shadow", ""), manifest::gateway(&[PLAIN]), http_route(rules)];
    let mut mesh = Mesh::new(&manifests.concat());
    mesh.add("product-0", &[("http", app.addr)]);
    mesh.add("shadow-0", &[("http", shadow.addr)]);
    mesh.add_gateway("public-0", &["http"]);
    let edge = mesh.listener("public-0", "http");
    assert_eq!(get(edge, "/a").await.status, 200);
    let post = request("POST", "/b").body(Bytes::from("payload")).unwrap();
    assert_eq!(send(edge, post).await.status, 200);
    let large = request("POST", "/c").body(Bytes::from(vec![b'x'; 200_000])).unwrap();
    assert_eq!(send(edge, large).await.status, 200);
    let metric = |text: &str, result: &str| {
        let line = text.lines().find(|line| {
            line.starts_with("weft_mirrors_total") && line.contains(&format!("result=\"{result}\""))
        });
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u32>().ok()).unwrap_or_default()
    };
    weft_e2e::eventually("the copies are counted", async || {
        let text = get(mesh.page("public-0", "metrics"), "/metrics").await.text();
        (metric(&text, "sent") == 2 && metric(&text, "dropped") == 1).then_some(())
    })
    .await;
    let mut seen: Vec<_> = shadow.seen().into_iter().map(|seen| (seen.path, seen.body)).collect();
    seen.sort();
    assert_eq!(seen, [("/a".to_owned(), String::new()), ("/b".to_owned(), "payload".to_owned())]);
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_client_is_who_it_says() {
    let limit = "  rateLimits: [{requests: 1, per: 1h, key: client-ip}]";
    let hops = "---\napiVersion: weft.dev/v1alpha1\nkind: Mesh\nmetadata: {name: default}\n\
                spec: {accessLog: None, trustedHops: 1}\n";
    for (mesh_says, expected) in [("", [200, 429, 429]), (hops, [200, 200, 429])] {
        let (mut mesh, _app) = gateway(limit, ALL).await;
        mesh.apply(mesh_says);
        let edge = mesh.listener("public-0", "http");
        let mut statuses = Vec::new();
        for chain in ["198.51.100.1", "6.6.6.6, 198.51.100.2", "7.7.7.7, 198.51.100.1"] {
            let request = request("GET", "/x").header("x-forwarded-for", chain).body(Bytes::new()).unwrap();
            statuses.push(send(edge, request).await.status.as_u16());
        }
        assert_eq!(statuses, expected, "{mesh_says}");
    }
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_gets_in_and_others_do_not() {
    let rules = "  - filters: [{type: CORS, cors: {allowOrigins: [\"https://*.example\"], allowMethods: [PUT], maxAge: 60}}]
    backendRefs: [{name: product, port: 80}]";
    let (mesh, app) = gateway("", rules).await;
    let edge = mesh.listener("public-0", "http");
    let ask = |method: &str, origin: &str| request(method, "/x").header("origin", origin);
    let preflight = ask("OPTIONS", "https://shop.example").header("access-control-request-method", "PUT");
    let answer = send(edge, preflight.body(Bytes::new()).unwrap()).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), "https://shop.example");
    assert_eq!(answer.header("access-control-allow-methods"), "PUT");
    assert_eq!((answer.header("access-control-max-age"), app.count()), ("60", 0));
    let put = send(edge, ask("PUT", "https://shop.example").body(Bytes::new()).unwrap()).await;
    assert_eq!(
        (put.status.as_u16(), put.header("access-control-allow-origin")),
        (200, "https://shop.example")
    );
    let other = send(edge, ask("PUT", "https://evil.test").body(Bytes::new()).unwrap()).await;
    assert_eq!((other.header("access-control-allow-origin"), other.header("vary")), ("", "origin"));
}

#[tokio::test]
async fn weights_split_the_traffic() {
    let rules =
        "  - backendRefs: [{name: product, port: 80, weight: 80}, {name: canary, port: 80, weight: 20}]";
    let stable = HttpApp::start("product").await;
    let new = HttpApp::start("canary").await;
    let manifests = [product(""), service("canary", ""), manifest::gateway(&[PLAIN]), http_route(rules)];
    let mut mesh = Mesh::new(&manifests.concat());
    mesh.add("product-0", &[("http", stable.addr)]);
    mesh.add("canary-0", &[("http", new.addr)]);
    mesh.add_gateway("public-0", &["http"]);
    let edge = mesh.listener("public-0", "http");
    for _ in 0..200 {
        assert_eq!(get(edge, "/x").await.status, 200);
    }
    // 40 are expected; five standard deviations of 5.7 to either side.
    assert!((12..=68).contains(&new.count()), "{} of 200 went to the canary", new.count());
}

#[tokio::test]
async fn the_edge_refuses_a_bad_token_before_the_service_sees_it() {
    let issuer = Issuer::new("k1");
    let spec = format!(
        "  authentication:
    jwt: [{{issuer: {ISSUER}, audiences: [{AUDIENCE}], jwks: {{inline: '{}'}}, claimHeaders: {{sub: x-user-id}}}}]",
        issuer.jwks()
    );
    let (mesh, app) = gateway(&spec, ALL).await;
    let edge = mesh.listener("public-0", "http");
    assert_eq!(get(edge, "/x").await.reason(), "jwt-missing");
    assert_eq!(get_with_token(edge, "/x", "rubbish").await.reason(), "jwt-malformed");
    let inbound = get(mesh.page("product-0", "metrics"), "/metrics").await.text();
    assert!(!inbound.contains("jwt-"), "the edge refused, not the service's sidecar");
    let seen = get_with_token(edge, "/x", &issuer.token("u1", "customer")).await.seen();
    assert_eq!(seen.headers["x-user-id"], "u1");
    assert_eq!(app.count(), 1);
}

#[tokio::test]
async fn what_only_the_mesh_may_set_is_taken_from_clients_and_set_by_the_gateway() {
    let (mesh, _app) = gateway("", ALL).await;
    let spoofed = request("GET", "/x")
        .header("x-forwarded-for", "6.6.6.6")
        .header("x-weft-stale", "true")
        .header("x-forwarded-proto", "https");
    let seen = send(mesh.listener("public-0", "http"), spoofed.body(Bytes::new()).unwrap()).await.seen();
    assert_eq!(seen.headers["x-forwarded-proto"], "http");
    assert!(seen.headers["x-forwarded-for"].ends_with("127.0.0.1"), "{seen:?}");
    assert!(!seen.headers.contains_key("x-weft-stale"));
    assert!(!seen.headers["x-request-id"].is_empty());
    assert!(seen.headers.contains_key("traceparent"));
}

#[tokio::test]
async fn tls_is_terminated_with_the_certificate_of_the_secret() {
    let (secret, certificate) = manifest::secret("shop.example");
    let listener = "{name: https, port: 8443, protocol: HTTPS, tls: {certificateRefs: [{name: edge}]}}";
    let app = HttpApp::start("product").await;
    let manifests = [product(""), secret, manifest::gateway(&[listener]), http_route(ALL)];
    let mut mesh = Mesh::new(&manifests.concat());
    mesh.add("product-0", &[("http", app.addr)]);
    mesh.add_gateway("public-0", &["https"]);
    let config = trusting(&certificate, &[]);
    let stream = TcpStream::connect(mesh.listener("public-0", "https")).await.unwrap();
    let name = ServerName::try_from("shop.example").unwrap();
    let mut tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    tls.write_all(b"GET /x HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    tls.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(app.seen()[0].headers["x-forwarded-proto"], "https");
}

#[tokio::test]
async fn services_are_not_reachable_past_the_gateway_in_plain_text() {
    let (mesh, app) = gateway("", ALL).await;
    let bytes = b"GET /x HTTP/1.1\r\nhost: product\r\nconnection: close\r\n\r\n";
    let answer = weft_e2e::client::raw(mesh.inbound("product-0", "http"), bytes).await;
    assert!(!answer.contains(" 200 "), "{answer}");
    assert_eq!(app.count(), 0);
}

#[tokio::test]
async fn exemptions_are_held_against_the_path_as_the_service_knows_it() {
    let issuer = Issuer::new("k1");
    let spec = format!(
        "  authentication:
    jwt: [{{issuer: {ISSUER}, jwks: {{inline: '{}'}}}}]
    exempt: [{{methods: [GET], paths: [/products*]}}]",
        issuer.jwks()
    );
    let rules = "  - matches: [{path: {type: PathPrefix, value: /api/products}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /products}}}]
    backendRefs: [{name: product, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /products}}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /secret}}}]
    backendRefs: [{name: product, port: 80}]";
    let (mesh, _app) = gateway(&spec, rules).await;
    let edge = mesh.listener("public-0", "http");
    assert_eq!(get(edge, "/api/products/1").await.seen().path, "/products/1");
    assert_eq!(get(edge, "/products/1").await.reason(), "jwt-missing");
}
