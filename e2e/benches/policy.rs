//! What each step of a request costs by itself: `cargo bench -p weft-e2e --bench policy`. One request of a shop's caller,
//! rules as a service of ten routes and five rules has them. What they cost together, with sockets and TLS, the bench says.
#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![expect(clippy::unwrap_used, reason = "a bench: it stops where a test would")]

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::Instant;
use weft_api::v1::{self, path_match, peer_match, rate_limit_key};
use weft_e2e::tokens::{AUDIENCE, ISSUER, Issuer, now};
use weft_sidecar::cx::{ConnCx, RequestCx};
use weft_sidecar::http::headers::strip_request;
use weft_sidecar::policy::authz;
use weft_sidecar::policy::breaker::Breaker;
use weft_sidecar::policy::jwt::{self, KeySet};
use weft_sidecar::policy::outcome::Outcome;
use weft_sidecar::policy::path::NormalPath;
use weft_sidecar::policy::rate_limit::RateLimits;
use weft_sidecar::policy::route::Table;
use weft_sidecar::upstream::balance::{Ask, Balancer, Rules};

criterion_group!(steps, path, headers, routes, tokens, authorization, limits, breaker, balancer);
criterion_main!(steps);

fn request() -> RequestCx {
    let peer = SocketAddr::from((Ipv4Addr::new(10, 0, 0, 7), 40_000));
    let identity = "spiffe://cluster.local/ns/shop/sa/order".parse().unwrap();
    let conn = Arc::new(ConnCx { peer, identity: Some(Arc::new(identity)), port: 80, tls: true });
    let path = NormalPath::parse("/orders/7/items").unwrap();
    RequestCx { id: "bench".into(), host: "product".into(), ..RequestCx::new(conn, path, Instant::now()) }
}

fn header_map() -> HeaderMap {
    let list = [
        ("host", "product"),
        ("user-agent", "shop/1.0"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip"),
        ("x-request-id", "9f8e7d6c5b4a39281706f5e4d3c2b1a0"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"),
    ];
    list.into_iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
}

fn path(c: &mut Criterion) {
    c.bench_function("path/plain", |b| b.iter(|| NormalPath::parse(black_box("/orders/7/items"))));
    c.bench_function("path/dots and escapes", |b| {
        b.iter(|| NormalPath::parse(black_box("/a/../orders//%37/items")));
    });
}

fn headers(c: &mut Criterion) {
    let mut with_hop = header_map();
    with_hop.insert("connection", HeaderValue::from_static("keep-alive, x-a"));
    for (name, map) in [("headers/nothing to strip", header_map()), ("headers/connection", with_hop)] {
        let strip = |mut map: HeaderMap| strip_request(&mut map);
        c.bench_function(name, |b| b.iter_batched(|| map.clone(), strip, BatchSize::SmallInput));
    }
}

fn routes(c: &mut Criterion) {
    let route = |n: usize| {
        let prefix = if n == 9 { "/orders".to_owned() } else { format!("/service-{n}") };
        let path = v1::PathMatch { path: Some(path_match::Path::Prefix(prefix)) };
        let matches = vec![v1::RouteMatch { path: Some(path), ..Default::default() }];
        v1::Route { name: format!("route-{n}"), matches, ..Default::default() }
    };
    let table = Table::new(&v1::Routes { routes: (0..10).map(route).collect() }).unwrap();
    let (mut cx, map) = (request(), header_map());
    c.bench_function("route/last of ten", |b| b.iter(|| table.select(&mut cx, None, &map).unwrap()));
}

fn jwt_policy(issuer: &Issuer) -> jwt::Policy {
    use v1::token_source::Source;
    let header = v1::HeaderSource { name: "authorization".into(), prefix: "Bearer ".into() };
    let provider = v1::JwtProvider {
        issuer: ISSUER.into(),
        audiences: vec![AUDIENCE.into()],
        keys: "keys".into(),
        from: vec![v1::TokenSource { source: Some(Source::Header(header)) }],
        claim_headers: vec![v1::ClaimHeader { claim: "sub".into(), header: "x-user-id".into() }],
        ..Default::default()
    };
    let config = v1::Authentication { providers: vec![provider], required: true, exempt: Vec::new() };
    let keys = Arc::new(KeySet::parse(&v1::Keys { jwks: issuer.jwks(), ..Default::default() }).unwrap());
    jwt::Policy::new(&config, &|_| Some(Arc::clone(&keys))).unwrap()
}

fn signed(issuer: &Issuer) -> HeaderMap {
    let mut map = header_map();
    let token = format!("Bearer {}", issuer.token("ada", "customer"));
    map.insert("authorization", token.parse().unwrap());
    map
}

fn tokens(c: &mut Criterion) {
    let issuer = Issuer::new("k1");
    let (policy, map, at) = (jwt_policy(&issuer), signed(&issuer), now());
    let mut cx = request();
    c.bench_function("jwt/remembered", |b| {
        let verify = |mut map: HeaderMap| policy.verify(&mut cx, &mut map, None, at).unwrap();
        b.iter_batched(|| map.clone(), verify, BatchSize::SmallInput);
    });
    c.bench_function("jwt/first sight (ES256)", |b| {
        let verify = |(policy, mut map): (jwt::Policy, HeaderMap)| {
            policy.verify(&mut request(), &mut map, None, at).unwrap()
        };
        b.iter_batched(|| (jwt_policy(&issuer), map.clone()), verify, BatchSize::SmallInput);
    });
}

fn authorization(c: &mut Criterion) {
    let rule = |n: usize| v1::Rule {
        name: format!("rule-{n}"),
        from: vec![v1::PeerMatch {
            peer: Some(peer_match::Peer::Identity(format!(
                "spiffe://cluster.local/ns/shop/sa/{}",
                if n == 4 { "order".to_owned() } else { format!("other-{n}") }
            ))),
        }],
        to: vec![v1::RequestMatch {
            methods: vec!["GET".into(), "POST".into()],
            paths: vec!["/orders*".into()],
            ..Default::default()
        }],
        claims: vec![v1::ClaimMatch { claim: "role".into(), values: vec!["customer".into()] }],
        ..Default::default()
    };
    let rules = (0..5).map(rule).collect();
    let policy = authz::Policy::new(&v1::Authorization { rules, ..Default::default() }).unwrap();
    let issuer = Issuer::new("k1");
    let (mut cx, mut map) = (request(), signed(&issuer));
    jwt_policy(&issuer).verify(&mut cx, &mut map, None, now()).unwrap();
    c.bench_function("authorization/last of five rules", |b| b.iter(|| policy.check(&mut cx, &map)));
}

fn limits(c: &mut Criterion) {
    let limit = v1::RateLimit {
        requests: 500_000_000,
        per_ms: 1000,
        burst: u32::MAX / 2,
        key: Some(v1::RateLimitKey { key: Some(rate_limit_key::Key::ClientIp(true)) }),
        name: "all".into(),
        ..Default::default()
    };
    let limits = RateLimits::new(&[limit], None, Instant::now()).unwrap();
    let (cx, map, at) = (request(), header_map(), Instant::now());
    c.bench_function("rate limit/by client", |b| b.iter(|| limits.check(&cx, &map, at).is_ok()));
}

fn breaker(c: &mut Criterion) {
    let config = v1::CircuitBreaker {
        consecutive_failures: 5,
        failure_ratio: 0.6,
        min_requests: 3,
        window_ms: 10_000,
        open_for_ms: 60_000,
        half_open_requests: 3,
    };
    let (breaker, at) = (Breaker::new(Some(&config)).unwrap(), Instant::now());
    c.bench_function("breaker/admit and record", |b| {
        b.iter(|| breaker.admit(at).unwrap().record(Outcome::Status(StatusCode::OK), at));
    });
}

fn balancer(c: &mut Criterion) {
    let endpoint = |n: u8| v1::Endpoint { address: format!("10.0.1.{n}:80"), ..Default::default() };
    let endpoints = v1::Endpoints { endpoints: (1..=20).map(endpoint).collect() };
    let at = Instant::now();
    for policy in [v1::LbPolicy::PeakEwma, v1::LbPolicy::LeastRequest, v1::LbPolicy::RoundRobin] {
        let config = v1::LoadBalancing { policy: policy.into(), ..Default::default() };
        let rules = Rules { balancing: Some(&config), ..Rules::default() };
        let balancer = Balancer::new(rules, &endpoints, None, at).unwrap();
        let mut random = 1_u64;
        c.bench_function(&format!("balancer/{} of twenty", policy.as_str_name()), |b| {
            b.iter(|| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                balancer.pick(&Ask { random, ..Ask::default() }, at)
            });
        });
    }
}
