//! What proxies carry over `weft/1`, and what they do with those that do not speak it. Everything else in this folder runs
//! over it too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use weft_sidecar::app::{Handle, Proxy, Source};
use weft_sidecar::settings::{Settings, Transport};

use crate::support::{
    CLIENT_ID, Ca, Client, DESTINATION, SERVER_ID, app, calling, destination, echo, endpoints, inbound, pair,
    read, server, until,
};

fn open(proxy: &Handle) -> u32 {
    proxy.shared.open_connections.load(Ordering::Relaxed)
}

/// Answers once it may; counts those who wait, and takes away those who go.
async fn gate(waiting: &Arc<AtomicU32>, gate: &Arc<Semaphore>) -> std::net::SocketAddr {
    struct Waits(Arc<AtomicU32>);
    impl Drop for Waits {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let (waiting, gate) = (Arc::clone(waiting), Arc::clone(gate));
    app(move |_: Request<Incoming>| {
        let (waiting, gate) = (Arc::clone(&waiting), Arc::clone(&gate));
        async move {
            waiting.fetch_add(1, Ordering::Relaxed);
            let waits = Waits(waiting);
            gate.acquire().await.unwrap().forget();
            drop(waits);
            Response::new(Full::new(Bytes::from("through")))
        }
    })
    .await
}

fn ask() -> Request<Full<Bytes>> {
    Request::get("/").header("host", "product").body(Full::default()).unwrap()
}

#[tokio::test]
async fn requests_of_many_clients_share_one_connection_between_proxies() {
    let (waiting, semaphore) = (Arc::default(), Arc::new(Semaphore::new(0)));
    let pair = pair(gate(&waiting, &semaphore).await);
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = Client::connect(pair.to).await;
        clients.push(
            tokio_util::task::TaskTracker::new().spawn(async move { read(client.send(ask()).await).await.1 }),
        );
    }
    until(|| waiting.load(Ordering::Relaxed) == 20).await;
    assert_eq!((open(&pair.client), open(&pair.server)), (20, 1));
    semaphore.add_permits(20);
    for client in clients {
        assert_eq!(client.await.unwrap(), "through");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_request_from_the_application_and_leaves_the_others() {
    let (waiting, semaphore) = (Arc::default(), Arc::new(Semaphore::new(0)));
    let pair = pair(gate(&waiting, &semaphore).await);
    let mut stays = Client::connect(pair.to).await;
    let staying =
        tokio_util::task::TaskTracker::new().spawn(async move { read(stays.send(ask()).await).await.1 });
    until(|| waiting.load(Ordering::Relaxed) == 1).await;
    let goes = TcpStream::connect(pair.to).await.unwrap();
    goes.try_write(b"GET / HTTP/1.1\r\nhost: product\r\n\r\n").unwrap();
    until(|| waiting.load(Ordering::Relaxed) == 2).await;
    drop(goes);
    until(|| waiting.load(Ordering::Relaxed) == 1).await;
    semaphore.add_permits(1);
    assert_eq!(staying.await.unwrap(), "through");
    assert_eq!(open(&pair.server), 1);
}

/// How a request goes between proxies that prefer these.
async fn check(prefers: Transport, expect: (u32, u32)) {
    let ca = Ca::new();
    let (waiting, semaphore) = (Arc::default(), Arc::new(Semaphore::new(0)));
    let server = server(&ca.issue(SERVER_ID), inbound(gate(&waiting, &semaphore).await));
    let resources = calling(&destination(), &endpoints(&[server.address("inbound/http").unwrap()]));
    let settings = Settings { transport: prefers, ..Settings::in_process() };
    let client = Proxy::start(settings, Source::Static(resources, ca.issue(CLIENT_ID))).unwrap();
    let to = client.address(&format!("outbound/{DESTINATION}")).unwrap();
    let mut asking = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(to).await;
        asking.push(
            tokio_util::task::TaskTracker::new().spawn(async move { read(client.send(ask()).await).await.1 }),
        );
    }
    until(|| waiting.load(Ordering::Relaxed) == 3).await;
    assert_eq!((open(&client), open(&server)), expect, "{prefers:?}");
    semaphore.add_permits(3);
    for asked in asking {
        assert_eq!(asked.await.unwrap(), "through");
    }
}

#[tokio::test]
async fn a_proxy_that_is_told_to_speaks_http() {
    check(Transport::Weft, (3, 1)).await;
    check(Transport::Http, (3, 3)).await;
}

#[tokio::test]
async fn bodies_and_heads_arrive_as_they_do_by_http() {
    let pair = pair(echo().await);
    let mut client = Client::connect(pair.to).await;
    let large = "x".repeat(3_000_000);
    let (_, said) = client.post("/a%20b?q=1", large.clone()).await;
    assert!(said.starts_with("POST /a%20b?q=1 HTTP/1.1\n"), "{:?}", said.lines().next());
    assert!(said.contains("\nhost: product\n") && said.contains("\ncontent-length: 3000000\n"));
    assert!(said.ends_with(&large));
}

#[tokio::test]
async fn a_dead_endpoint_is_told_to_all_who_wait_for_it_at_once() {
    let ca = Ca::new();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = listener.local_addr().unwrap();
    let mut destination = destination();
    destination.connect_timeout_ms = 300;
    let resources = calling(&destination, &endpoints(&[dead]));
    let client =
        Proxy::start(Settings::in_process(), Source::Static(resources, ca.issue(CLIENT_ID))).unwrap();
    let to = client.address(&format!("outbound/{DESTINATION}")).unwrap();
    let started = tokio::time::Instant::now();
    let mut asking = Vec::new();
    for _ in 0..10 {
        let mut client = Client::connect(to).await;
        asking.push(
            tokio_util::task::TaskTracker::new().spawn(async move { client.send(ask()).await.status() }),
        );
    }
    for asked in asking {
        assert!(asked.await.unwrap().is_server_error());
    }
    assert!(started.elapsed() < std::time::Duration::from_millis(2500), "{:?}", started.elapsed());
    drop(listener);
}

#[tokio::test]
async fn endpoints_that_a_new_configuration_brings_are_connected_to_before_they_are_called() {
    let (ca, app) = (Ca::new(), echo().await);
    let servers: Vec<_> = (0..3).map(|_| server(&ca.issue(SERVER_ID), inbound(app))).collect();
    let at: Vec<_> = servers.iter().map(|server| server.address("inbound/http").unwrap()).collect();
    let proxy = crate::support::client(&ca.issue(CLIENT_ID), calling(&destination(), &endpoints(&at[..1])));
    let to = proxy.address(&format!("outbound/{DESTINATION}")).unwrap();
    assert_eq!(Client::connect(to).await.get("/").await.0.status(), 200);
    assert_eq!(open(&servers[0]), 1);
    proxy.replace(calling(&destination(), &endpoints(&at))).unwrap();
    until(|| open(&servers[1]) == 1 && open(&servers[2]) == 1).await;
    assert_eq!(open(&servers[0]), 1, "what is connected already is left alone");
}
