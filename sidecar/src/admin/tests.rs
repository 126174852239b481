//! Pages as a client sees them, and what they must never show.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use serde_json::Value;
use weft_api::v1::resource::Body;
use weft_api::v1::{self, Resource};

use super::*;
use crate::config::apply::apply;
use crate::drain::Tasks;
use crate::policy::outcome::Outcome;
use crate::settings::Settings;
use crate::telemetry::Telemetry;

const PRODUCT: &str = "shop/product:http";

fn shared(upserts: Vec<Resource>) -> Arc<Shared> {
    let (telemetry, _outlets) = Telemetry::new("shop/order");
    let (shared, _asks) = Shared::new(Settings::in_process(), telemetry, Tasks::new());
    let delta = v1::Delta { nonce: String::new(), upserts, removals: Vec::new() };
    shared.publish(apply(&shared.config.load(), delta).unwrap());
    shared
}

fn resource(name: &str, body: Body) -> Resource {
    Resource { name: name.to_owned(), version: "1".to_owned(), body: Some(body) }
}

fn product() -> Vec<Resource> {
    let breaker = v1::CircuitBreaker {
        consecutive_failures: 1,
        open_for_ms: 60_000,
        half_open_requests: 1,
        ..v1::CircuitBreaker::default()
    };
    let spec = v1::Destination { breaker: Some(breaker), ..v1::Destination::default() };
    let endpoint = v1::Endpoint {
        address: "10.0.0.1:80".to_owned(),
        instance: "product-0".to_owned(),
        ..v1::Endpoint::default()
    };
    let endpoints = v1::Endpoints { endpoints: vec![endpoint] };
    vec![resource(PRODUCT, Body::Destination(spec)), resource(PRODUCT, Body::Endpoints(endpoints))]
}

fn ask(method: &str, path: &str, headers: &[(&str, &str)], body: &'static str) -> Ask {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Ask {
        local: "127.0.0.1:15000".parse().unwrap(),
        peer: "127.0.0.1:9".parse().unwrap(),
        request: request.body(Bytes::from_static(body.as_bytes())).unwrap(),
    }
}

async fn page(shared: &Shared, method: &str, path: &str) -> (StatusCode, String) {
    let answer = admin(shared, &ask(method, path, &[], ""));
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn get(shared: &Shared, path: &str) -> Value {
    let (status, body) = page(shared, "GET", path).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn an_open_breaker_is_shown_and_can_be_reset() {
    let shared = shared(product());
    let breaker = shared.config.load().destinations[PRODUCT].breaker.clone().unwrap();
    let now = Instant::now();
    let opened = breaker.admit(now).unwrap().record(Outcome::ConnectFailed, now);
    assert!(opened.is_some());
    let shown = &get(&shared, "/breakers").await[0];
    assert_eq!((&shown["destination"], &shown["state"]), (&PRODUCT.into(), &"OPEN".into()));
    assert_eq!((&shown["failureCount"], &shown["threshold"]), (&1.into(), &1.into()));
    assert_eq!(shown["timeout"], 60_000.0);
    let (status, body) = page(&shared, "POST", "/breakers/reset?destination=shop%2Fproduct%3Ahttp").await;
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(get(&shared, "/breakers").await[0]["state"], "CLOSED");
    assert!(shared.telemetry.metrics.encode(0).contains("weft_breaker_transitions_total"));
}

#[tokio::test]
async fn resetting_an_unknown_destination_says_so() {
    let (status, body) = page(&shared(product()), "POST", "/breakers/reset?destination=shop/none:http").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(body.contains("shop/none:http"));
}

#[tokio::test]
async fn endpoints_are_shown_with_their_load() {
    let shared = shared(product());
    let shown = get(&shared, "/endpoints").await;
    let endpoint = &shown[0]["endpoints"][0];
    assert_eq!((&endpoint["address"], &endpoint["instance"]), (&"10.0.0.1:80".into(), &"product-0".into()));
    assert_eq!((&endpoint["inFlight"], &endpoint["ejectedForMs"]), (&0.into(), &Value::Null));
    assert_eq!(get(&shared, "/endpoints?destination=shop/none:http").await, Value::Array(Vec::new()));
}

#[tokio::test]
async fn secrets_are_not_shown() {
    let key = rcgen::generate_simple_self_signed(["shop.example".to_owned()]).unwrap();
    let tls = v1::ServerCertificate { chain: key.cert.pem(), key: key.signing_key.serialize_pem() };
    let listener = v1::GatewayListener {
        name: "web".to_owned(),
        listen: "127.0.0.1:0".to_owned(),
        tls: Some(tls),
        ..v1::GatewayListener::default()
    };
    let gateway = v1::Gateway {
        identity: "spiffe://cluster.local/ns/shop/sa/gateway".to_owned(),
        listeners: vec![listener],
    };
    let jwks = r#"{"keys":[{"kty":"oct","kid":"one","alg":"HS256","k":"c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlYw"}]}"#;
    let keys = v1::Keys { jwks: jwks.to_owned(), ..v1::Keys::default() };
    let proxy = v1::Proxy { redis_url: "redis://weft:hunter2@redis:6379".to_owned(), ..v1::Proxy::default() };
    let shared = shared(vec![
        resource("self", Body::Gateway(gateway)),
        resource("shop/user", Body::Keys(keys)),
        resource("self", Body::Proxy(proxy)),
    ]);
    let (_, text) = page(&shared, "GET", "/config").await;
    for secret in ["PRIVATE KEY", "c2VjcmV0", "hunter2"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    for shown in ["BEGIN CERTIFICATE", "one", "redis:6379", "gateway"] {
        assert!(text.contains(shown), "{shown} not in {text}");
    }
}

#[tokio::test]
async fn only_programs_on_this_machine_are_answered() {
    let shared = shared(product());
    let check = |ask: Ask, expect: StatusCode| assert_eq!(admin(&shared, &ask).status(), expect);
    check(ask("GET", "/stats", &[("host", "localhost:15000")], ""), StatusCode::OK);
    check(ask("GET", "/stats", &[("host", "127.0.0.1:15000")], ""), StatusCode::OK);
    check(ask("GET", "/stats", &[("host", "rebound.example:15000")], ""), StatusCode::FORBIDDEN);
    check(ask("POST", "/breakers/reset", &[("origin", "https://evil.example")], ""), StatusCode::FORBIDDEN);
    let mut far = ask("GET", "/stats", &[], "");
    far.peer = "10.0.0.9:1".parse().unwrap();
    check(far, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn what_is_not_a_page_or_not_its_method_is_refused() {
    let shared = shared(product());
    for (method, path, expect) in [
        ("GET", "/nothing", StatusCode::NOT_FOUND),
        ("DELETE", "/config", StatusCode::METHOD_NOT_ALLOWED),
        ("GET", "/breakers/reset", StatusCode::METHOD_NOT_ALLOWED),
        ("POST", "/log", StatusCode::METHOD_NOT_ALLOWED),
        ("GET", "/", StatusCode::OK),
        ("GET", "/certs", StatusCode::OK),
        ("GET", "/stats", StatusCode::OK),
    ] {
        assert_eq!(page(&shared, method, path).await.0, expect, "{method} {path}");
    }
}
