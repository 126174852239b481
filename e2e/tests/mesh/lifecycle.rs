//! Starting, draining, changing configuration under load.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use weft_e2e::apps::http::HttpApp;
use weft_e2e::client::get;
use weft_e2e::eventually;

use crate::{PRODUCT, order_and_product, product};

/// Calls one after the other until told to stop: how many there were, and those that failed.
async fn call_until(stopped: watch::Receiver<bool>, addr: SocketAddr) -> (usize, Vec<String>) {
    let (mut count, mut failed) = (0, Vec::new());
    while !*stopped.borrow() {
        let answer = get(addr, "/x").await;
        count += 1;
        if answer.status != 200 {
            failed.push(format!("{} {}", answer.status, answer.reason()));
        }
    }
    (count, failed)
}

#[tokio::test]
async fn a_rolling_restart_under_load_fails_no_request() {
    let (mut mesh, _first) = order_and_product("  loadBalancing: {policy: RoundRobin}").await;
    let apps = [HttpApp::start("b").await, HttpApp::start("c").await];
    mesh.add("product-1", &[("http", apps[0].addr)]);
    let outbound = mesh.outbound("order-0", PRODUCT);
    let (stop, stopped) = watch::channel(false);
    let mut load = JoinSet::new();
    for _ in 0..4 {
        let stopped = stopped.clone();
        load.spawn(call_until(stopped, outbound));
    }
    mesh.stop("product-0", true).await;
    mesh.add("product-2", &[("http", apps[1].addr)]);
    mesh.stop("product-1", true).await;
    eventually("the new instance serves", async || (apps[1].count() > 20).then_some(())).await;
    stop.send(true).unwrap();
    for (count, failed) in load.join_all().await {
        assert!(count > 0);
        assert!(failed.is_empty(), "{failed:?} of {count}");
    }
}

#[tokio::test]
async fn a_request_in_flight_is_finished_while_draining() {
    let (mut mesh, app) = order_and_product("").await;
    app.delay(Duration::from_millis(300));
    let outbound = mesh.outbound("order-0", PRODUCT);
    let mut calls = JoinSet::new();
    calls.spawn(async move { get(outbound, "/slow").await });
    eventually("the request has arrived", async || (app.count() == 1).then_some(())).await;
    mesh.stop("product-0", true).await;
    assert_eq!(calls.join_next().await.unwrap().unwrap().status, 200);
}

#[tokio::test]
async fn readiness_ends_when_draining_begins() {
    let (mesh, app) = order_and_product("").await;
    let health = mesh.page("order-0", "health");
    assert_eq!(get(health, "/ready").await.status, 200);
    assert_eq!(get(health, "/live").await.status, 200);
    app.delay(Duration::from_millis(500));
    let outbound = mesh.outbound("order-0", PRODUCT);
    let mut calls = JoinSet::new();
    calls.spawn(async move { get(outbound, "/slow").await });
    eventually("the request has arrived", async || (app.count() == 1).then_some(())).await;
    mesh.proxy("order-0").shared.tasks.begin();
    eventually("ready goes false", async || (get(health, "/ready").await.status == 503).then_some(())).await;
    assert_eq!(calls.join_next().await.unwrap().unwrap().status, 200);
}

#[tokio::test]
async fn a_new_configuration_takes_effect_on_an_open_connection() {
    let (mut mesh, _app) = order_and_product("").await;
    let outbound = mesh.outbound("order-0", PRODUCT);
    assert_eq!(get(outbound, "/x").await.status, 200);
    mesh.apply(&product("  authorization: {default: Deny, rules: []}"));
    assert_eq!(get(outbound, "/x").await.status, 403);
    mesh.apply(&product(""));
    assert_eq!(get(outbound, "/x").await.status, 200);
}
