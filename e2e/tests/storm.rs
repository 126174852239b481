//! Breaker, retries and a changing configuration over a network that delays, cuts and parts, between two real sidecars.
//! What the network does follows from a seed, so a storm that fails comes again; when each thing happens is up to real
//! sockets. After every storm: nothing was sent twice that must not be, nothing was lost that was answered, and the mesh
//! is whole again by itself.
#![expect(clippy::unwrap_used, reason = "test code")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;
use weft_e2e::apps::http::HttpApp;
use weft_e2e::apps::listen;
use weft_e2e::client::{get, request, try_send};
use weft_e2e::eventually;
use weft_e2e::manifest::service;
use weft_e2e::mesh::Mesh;

const DESTINATION: &str = "shop/product:http";
const CLIENTS: usize = 6;
const REQUESTS: usize = 15;

#[tokio::test]
async fn without_retries_nothing_that_left_is_sent_twice() {
    for seed in 1..=3 {
        let storm = Storm::over(seed, "").await;
        storm.each_seen_at_most(1);
        storm.calms_down().await;
    }
}

#[tokio::test]
async fn retries_send_no_more_often_than_they_say() {
    let retries = "    retries: {attempts: 2, backoff: {base: 10ms, max: 20ms}, retryOn: [connect, reset, 502, 503, 504]}";
    for seed in 4..=6 {
        let storm = Storm::over(seed, retries).await;
        storm.each_seen_at_most(3);
        storm.calms_down().await;
    }
}

/// A mesh that has been through it.
struct Storm {
    seed: u64,
    mesh: Mesh,
    app: HttpApp,
    network: Network,
    /// Ids of requests that were answered with 200.
    answered: Vec<String>,
}

impl Storm {
    /// Clients that send while the network is at its worst and the configuration changes.
    async fn over(seed: u64, more: &str) -> Self {
        let app = HttpApp::start("product").await;
        let mut mesh = Mesh::new(&manifests(more, 0));
        mesh.add("product-0", &[("http", app.addr)]);
        mesh.add("order-0", &[]);
        let inbound = mesh.inbound("product-0", "http");
        let network = Network::start(seed, inbound).await;
        mesh.detour(inbound, network.address);
        let to = mesh.outbound("order-0", DESTINATION);
        get(to, "/first").await;
        network.worsen(true);
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            clients.spawn(send_all(to, seed, client));
        }
        let mut answered = Vec::new();
        let mut version = 0;
        while let Some(done) = clients.join_next().await {
            answered.extend(done.unwrap());
            version += 1;
            mesh.apply(&manifests(more, version));
        }
        network.worsen(false);
        Self { seed, mesh, app, network, answered }
    }

    fn each_seen_at_most(&self, most: usize) {
        let mut times: HashMap<String, usize> = HashMap::new();
        for seen in self.app.seen() {
            *times.entry(seen.path).or_default() += 1;
        }
        for (id, count) in &times {
            assert!(*count <= most, "seed {}: {id} was sent {count} times", self.seed);
        }
        for id in &self.answered {
            assert!(times.contains_key(id), "seed {}: {id} was answered and never seen", self.seed);
        }
        assert!(self.network.harm() > 0, "seed {}: the storm did nothing", self.seed);
    }

    /// The breaker may be open; it tries, and closes.
    async fn calms_down(&self) {
        let to = self.mesh.outbound("order-0", DESTINATION);
        let page = self.mesh.page("order-0", "admin");
        eventually("requests pass and the breaker is closed", async || {
            let passed = get(to, "/after").await.status == 200;
            let closed = get(page, "/breakers").await.text().contains("CLOSED");
            (passed && closed).then_some(())
        })
        .await;
    }
}

/// Sends one after the other, each with a path of its own; says which were answered well.
async fn send_all(to: SocketAddr, seed: u64, client: usize) -> Vec<String> {
    let mut answered = Vec::new();
    for number in 0..REQUESTS {
        let path = format!("/{seed}-{client}-{number}");
        let request = request("POST", &path).body(Bytes::from_static(b"once")).unwrap();
        // A refusal is an answer too; only the application's counts.
        if try_send(to, request).await.is_ok_and(|answer| answer.status == 200) {
            answered.push(path);
        }
    }
    answered
}

fn manifests(more: &str, version: u32) -> String {
    let product = format!(
        "  resilience:
    timeout: {}ms
    circuitBreaker: {{consecutiveFailures: 8, openFor: 200ms, halfOpenRequests: 1}}
    outlierDetection: {{enabled: false}}
{more}",
        1000 + version
    );
    service("product", &product) + &service("order", "")
}

/// A relay of TCP that can be made to misbehave.
struct Network {
    address: SocketAddr,
    weather: Arc<Weather>,
    _relay: JoinSet<()>,
}

struct Weather {
    bad: AtomicBool,
    random: AtomicU64,
    harm: AtomicU64,
}

impl Network {
    async fn start(seed: u64, to: SocketAddr) -> Self {
        let weather = Arc::new(Weather {
            bad: AtomicBool::new(false),
            random: AtomicU64::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            harm: AtomicU64::new(0),
        });
        let shared = Arc::clone(&weather);
        let (address, relay) = listen(move |stream| carry(stream, to, Arc::clone(&shared))).await;
        Self { address, weather, _relay: relay }
    }

    fn worsen(&self, bad: bool) {
        self.weather.bad.store(bad, Ordering::SeqCst);
    }

    /// How often it did something bad.
    fn harm(&self) -> u64 {
        self.weather.harm.load(Ordering::SeqCst)
    }
}

impl Weather {
    /// Whether something bad happens now, once in so many times.
    fn strikes(&self, once_in: u64) -> bool {
        if !self.bad.load(Ordering::SeqCst) {
            return false;
        }
        let mut mixed = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let strikes = (mixed ^ (mixed >> 31)).is_multiple_of(once_in);
        self.harm.fetch_add(strikes.into(), Ordering::SeqCst);
        strikes
    }
}

/// One connection, until it ends or the weather ends it.
async fn carry(mut near: TcpStream, to: SocketAddr, weather: Arc<Weather>) {
    // Parted: nothing gets through, and nobody says so at once.
    if weather.strikes(6) {
        sleep(Duration::from_millis(50)).await;
        return;
    }
    let Ok(mut far) = TcpStream::connect(to).await else { return };
    let (mut up, mut down) = (vec![0; 4096], vec![0; 4096]);
    loop {
        let (read, onward, bytes) = tokio::select! {
            read = near.read(&mut up) => (read, &mut far, &up),
            read = far.read(&mut down) => (read, &mut near, &down),
        };
        let Ok(read @ 1..) = read else { return };
        if weather.strikes(8) {
            sleep(Duration::from_millis(15)).await;
        }
        // Cut in the middle: some of it may have arrived.
        let cut = weather.strikes(25);
        let length = if cut { read / 2 } else { read };
        if onward.write_all(&bytes[..length]).await.is_err() || cut {
            return;
        }
    }
}
