//! Balancing over several instances, and what happens as they come and go.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use weft_e2e::apps::http::HttpApp;
use weft_e2e::client::{get, request, send};
use weft_e2e::mesh::Mesh;

use crate::{PRODUCT, product};

async fn products(extra: &str, count: usize) -> (Mesh, Vec<HttpApp>) {
    let mut mesh = Mesh::new(&product(extra));
    let mut apps = Vec::new();
    for index in 0..count {
        let app = HttpApp::start(&format!("product-{index}")).await;
        mesh.add(&format!("product-{index}"), &[("http", app.addr)]);
        apps.push(app);
    }
    mesh.add("order-0", &[]);
    (mesh, apps)
}

async fn counts(mesh: &Mesh, requests: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        let answer = get(mesh.outbound("order-0", PRODUCT), "/x").await;
        assert_eq!(answer.status, 200);
        *counts.entry(answer.seen().app).or_default() += 1;
    }
    counts
}

async fn call_ten_times(addr: SocketAddr) {
    for _ in 0..10 {
        assert_eq!(get(addr, "/x").await.status, 200);
    }
}

#[tokio::test]
async fn the_own_zone_serves_until_half_of_it_has_failed() {
    let spec = "  loadBalancing: {policy: RoundRobin, zone: Prefer}
  resilience: {outlierDetection: {consecutiveFailures: 1, eject: 1h, maxEjectedPercent: 100}}";
    let (mut mesh, apps) = products(spec, 4).await;
    for (instance, zone) in [("order-0", "a"), ("product-0", "a"), ("product-1", "a"), ("product-2", "b")] {
        mesh.place(instance, zone);
    }
    let near = counts(&mesh, 20).await;
    assert_eq!(near, BTreeMap::from([("product-0".to_owned(), 10), ("product-1".to_owned(), 10)]));

    let outbound = mesh.outbound("order-0", PRODUCT);
    apps[0].answer_with(500);
    get(outbound, "/x").await;
    get(outbound, "/x").await;
    assert_eq!(counts(&mesh, 10).await, BTreeMap::from([("product-1".to_owned(), 10)]));
    apps[1].answer_with(500);
    get(outbound, "/x").await;
    let far = counts(&mesh, 10).await;
    assert_eq!(far.into_keys().collect::<Vec<_>>(), ["product-2", "product-3"]);
}

#[tokio::test]
async fn hints_of_the_cluster_say_whom_an_instance_serves() {
    let (mut mesh, _apps) = products("  loadBalancing: {policy: RoundRobin}", 3).await;
    mesh.place("order-0", "a");
    for (instance, zones) in [("product-0", ["a", "b"]), ("product-1", ["c", "b"])] {
        mesh.hint(instance, &zones);
    }
    assert_eq!(counts(&mesh, 9).await.len(), 3, "one has no hints yet, so nobody's count");
    mesh.hint("product-2", &["b"]);
    assert_eq!(counts(&mesh, 9).await, BTreeMap::from([("product-0".to_owned(), 9)]));
}

#[tokio::test]
async fn a_client_stays_with_the_instance_its_cookie_leads_to() {
    let spec =
        "  loadBalancing: {policy: ConsistentHash, consistentHash: {cookie: session, cookieLifetime: 1h}}";
    let (mesh, _apps) = products(spec, 4).await;
    let outbound = mesh.outbound("order-0", PRODUCT);
    for _ in 0..5 {
        let first = get(outbound, "/x").await;
        let cookie = first.header("set-cookie").to_owned();
        assert!(cookie.contains("; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600"), "{cookie}");
        let value = cookie.split(';').next().unwrap().to_owned();
        let app = first.seen().app;
        for _ in 0..5 {
            let again = request("GET", "/x").header("cookie", &value).body("".into()).unwrap();
            let again = send(outbound, again).await;
            assert_eq!((again.header("set-cookie"), again.seen().app.as_str()), ("", app.as_str()));
        }
    }
}

#[tokio::test]
async fn when_too_many_are_ejected_all_are_used() {
    let spec = "  loadBalancing: {policy: RoundRobin}
  resilience: {outlierDetection: {consecutiveFailures: 1, eject: 1h, maxEjectedPercent: 100, panicPercent: 60}}";
    let (mesh, apps) = products(spec, 2).await;
    apps[0].answer_with(500);
    let outbound = mesh.outbound("order-0", PRODUCT);
    get(outbound, "/x").await;
    get(outbound, "/x").await;
    apps[0].answer_with(200);
    let all = counts(&mesh, 10).await;
    assert_eq!(all, BTreeMap::from([("product-0".to_owned(), 5), ("product-1".to_owned(), 5)]));
    let shown: serde_json::Value = get(mesh.page("order-0", "admin"), "/endpoints").await.json();
    assert!(shown.to_string().contains("\"panic\":true"), "{shown}");
}

/// Eight callers at once, each after its own answer: what policies that look at load see.
#[tokio::test]
async fn every_policy_uses_both_replicas() {
    for policy in ["PeakEwma", "LeastRequest", "RoundRobin", "Random"] {
        let (mesh, apps) = products(&format!("  loadBalancing: {{policy: {policy}}}"), 2).await;
        for app in &apps {
            app.delay(Duration::from_millis(10));
        }
        let outbound = mesh.outbound("order-0", PRODUCT);
        let mut callers = JoinSet::new();
        for _ in 0..8 {
            callers.spawn(call_ten_times(outbound));
        }
        callers.join_all().await;
        let counts: Vec<_> = apps.iter().map(HttpApp::count).collect();
        assert!(counts.iter().all(|count| *count >= 15), "{policy}: {counts:?}");
    }
}

#[tokio::test]
async fn round_robin_is_even() {
    let (mesh, _apps) = products("  loadBalancing: {policy: RoundRobin}", 3).await;
    let counts = counts(&mesh, 30).await;
    assert!(counts.values().all(|count| *count == 10), "{counts:?}");
}

#[tokio::test]
async fn a_hash_on_a_header_keeps_a_user_on_one_instance() {
    let spec = "  loadBalancing: {policy: ConsistentHash, consistentHash: {header: x-user}}";
    let (mesh, _apps) = products(spec, 3).await;
    let mut used = BTreeMap::new();
    for user in 0..20 {
        for _ in 0..3 {
            let request = request("GET", "/x").header("x-user", user.to_string()).body("".into()).unwrap();
            let app = send(mesh.outbound("order-0", PRODUCT), request).await.seen().app;
            let first = used.entry(user).or_insert_with(|| app.clone());
            assert_eq!(*first, app, "user {user}");
        }
    }
    let apps: std::collections::BTreeSet<_> = used.values().collect();
    assert!(apps.len() > 1, "all users on one instance");
}

#[tokio::test]
async fn a_new_instance_gets_traffic_and_a_deregistered_one_gets_none() {
    let (mut mesh, apps) = products("  loadBalancing: {policy: RoundRobin}", 1).await;
    assert_eq!(counts(&mesh, 4).await.len(), 1);
    let second = HttpApp::start("product-9").await;
    mesh.add("product-9", &[("http", second.addr)]);
    assert_eq!(counts(&mesh, 4).await.len(), 2);
    mesh.stop("product-0", true).await;
    let before = apps[0].count();
    assert_eq!(counts(&mesh, 10).await.keys().collect::<Vec<_>>(), ["product-9"]);
    assert_eq!(apps[0].count(), before);
}

#[tokio::test]
async fn a_dead_instance_costs_no_request() {
    let (mut mesh, _apps) = products("  loadBalancing: {policy: RoundRobin}", 2).await;
    assert_eq!(counts(&mesh, 4).await.len(), 2);
    // Its proxy is gone, but the endpoint is still listed: connecting fails, and another endpoint is tried.
    mesh.stop("product-0", false).await;
    assert_eq!(counts(&mesh, 20).await.keys().collect::<Vec<_>>(), ["product-1"]);
}
