//! A service with a few odd routes, started, asked and stopped, against a real PostgreSQL and Redis.

use std::sync::{Arc, OnceLock};

use axum::{Router, routing::get};
use clap::Parser;
use futures_util::{FutureExt as _, future::try_join_all};
use http::StatusCode;
use serde_json::json;
use sqlx::PgPool;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, service::Routes, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{Parts, Service};
use crate::{
    cx::{Caller, Cx},
    health::Dependency,
    neighbour::Neighbour,
    redis::Redis,
    server::Listeners,
    settings::Common,
    store,
    testing::{RedisServer, Running, cut_off, database, documented, eventually, let_in},
};

#[derive(Parser)]
struct Settings {
    #[command(flatten)]
    common: Common,
}

fn settings(database: &str, more: &[&str]) -> Common {
    Settings::parse_from([&["odd", "--instance", "odd-0", "--database-url", database], more].concat()).common
}

const DOCUMENT: &str = r"
info: {title: odd}
paths:
  /waits: {get: {responses: {'200': {description: Done, content: {text/plain: {schema: {type: string}}}}}}}
  /panics: {get: {responses: {'200': {description: Never}}}}
  /me: {get: {responses: {'200': {description: An id, content: {text/plain: {schema: {type: string}}}}}}}
  /left: {get: {responses: {'200': {description: ms, content: {text/plain: {schema: {type: integer}}}}}}}
";

/// What the tests and the odd routes tell each other.
#[derive(Clone, Default)]
struct Signals {
    arrived: Arc<Notify>,
    go_on: Arc<Notify>,
    pool: Arc<OnceLock<PgPool>>,
}

async fn odd(
    (settings, redis, signals): (Common, Option<String>, Signals),
    listeners: Listeners,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let pool = store::pool(&settings);
    signals.pool.set(pool.clone()).unwrap();
    let redis = redis.map(|url| Dependency::Redis(Redis::new(url.parse().unwrap()).unwrap()));
    let service = Service::new(("odd", "1.2.3"), &settings, &pool, redis.into_iter().collect(), &shutdown);
    service.describe(DOCUMENT)?;
    let waits = move || {
        let Signals { arrived, go_on, .. } = signals.clone();
        async move {
            arrived.notify_one();
            go_on.notified().await;
            "done"
        }
    };
    let http = Router::new()
        .route("/waits", get(waits))
        .route("/panics", get(async || -> &'static str { panic!("on purpose") }))
        .route("/me", get(async |caller: Caller| caller.id.to_string()))
        .route(
            "/left",
            get(async |cx: Cx| (cx.deadline() - tokio::time::Instant::now()).as_millis().to_string()),
        );
    let prepare = async move {
        sqlx::query("SELECT 1").execute(&pool).await?;
        Ok(())
    };
    service.run(listeners, Parts { http, grpc: Routes::default(), prepare }).await
}

async fn start(settings: Common, redis: Option<String>) -> (Running, Signals) {
    let signals = Signals::default();
    let with = (settings, redis, signals.clone());
    (Running::start(|listeners, shutdown| odd(with, listeners, shutdown)).await, signals)
}

#[tokio::test]
async fn a_request_in_flight_is_finished_before_the_service_stops() {
    let (service, signals) = start(settings(&database().await, &[]), None).await;
    let http = service.http.clone();
    let address = http.address().to_owned();
    let request = async { http.get("/waits").await };
    let stop = async {
        signals.arrived.notified().await;
        service.begin_stop();
        eventually("new connections are refused", async || TcpStream::connect(&address).await.is_err()).await;
        signals.go_on.notify_one();
        service.stop().await
    };
    let (reply, stopped) = tokio::join!(request, stop);
    assert_eq!((reply.status, reply.body.as_str()), (StatusCode::OK, Some("done")));
    stopped.unwrap();
}

#[tokio::test]
async fn a_request_that_does_not_end_is_left_behind_in_the_end() {
    let settings = settings(&database().await, &["--shutdown-timeout", "100ms"]);
    let (service, signals) = start(settings, None).await;
    let http = service.http.clone();
    let stop = async {
        signals.arrived.notified().await;
        service.stop().await
    };
    tokio::select! {
        stopped = stop => stopped.unwrap(),
        _ = http.get("/waits") => panic!("nobody let it go on"),
    }
}

#[tokio::test]
async fn a_service_that_drains_says_so_and_still_serves() {
    let (service, _) = start(settings(&database().await, &["--drain-delay", "3s"]), None).await;
    service.begin_stop();
    eventually("others can see it", async || service.health().await.1 == "DOWN").await;
    assert_eq!(service.http.get("/left").await.status, StatusCode::OK);
    let address = service.http.address().to_owned();
    service.ended().await.unwrap();
    assert!(TcpStream::connect(&address).await.is_err());
}

#[tokio::test]
async fn a_request_ends_at_its_deadline() {
    let settings = settings(&database().await, &["--request-timeout", "200ms"]);
    let (service, _signals) = start(settings, None).await;
    let reply = service.http.get("/waits").await;
    assert_eq!(reply.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(reply.headers["content-type"], "application/problem+json");
    let left: u64 = service.http.header("grpc-timeout", "50m").get("/left").await.body.as_u64().unwrap();
    assert!(left <= 50, "{left}");
}

#[tokio::test]
async fn a_panic_ends_one_request() {
    let (service, _) = start(settings(&database().await, &[]), None).await;
    let reply = service.http.get("/panics").await;
    assert_eq!(
        (reply.status, &reply.body["type"]),
        (StatusCode::INTERNAL_SERVER_ERROR, &"urn:problem:shop:internal".into())
    );
    assert_eq!(service.http.get("/left").await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_answer_says_who_gave_it_and_to_which_request() {
    let (service, _) = start(settings(&database().await, &[]), None).await;
    let reply = service.http.header("x-request-id", "r1").get("/me").await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        (&reply.headers["x-request-id"], &reply.headers["x-served-by"]),
        (&"r1".parse().unwrap(), &"odd-0".parse().unwrap())
    );
    let unknown = service.http.get("/nothing").await;
    assert_eq!((unknown.status, &unknown.body["status"]), (StatusCode::NOT_FOUND, &404.into()));
    let wrong = service.http.delete("/me").await;
    assert_eq!(
        (wrong.status, &wrong.headers["content-type"]),
        (StatusCode::METHOD_NOT_ALLOWED, &"application/problem+json".parse().unwrap())
    );
    let info = service.http.get("/info").await.body;
    assert_eq!(
        (&info["name"], &info["version"], &info["instance"]),
        (&"odd".into(), &"1.2.3".into(), &"odd-0".into())
    );
    let metrics = service.http.get("/metrics").await.body.to_string();
    assert!(
        metrics.contains("shop_requests_total{protocol=\\\"http\\\",route=\\\"/me\\\",status=\\\"401\\\"} 1"),
        "{metrics}"
    );
    assert!(metrics.contains("shop_database_connections{state=\\\"max\\\"} 10"), "{metrics}");
    assert!(!metrics.contains("/nothing"), "a path became a label: {metrics}");
}

#[tokio::test]
async fn health_tells_what_is_missing() {
    let redis = RedisServer::start();
    let database = database().await;
    let (service, _) = start(settings(&database, &[]), Some(redis.url())).await;
    let report = service.http.get("/health").await;
    assert_eq!((report.status, &report.body["status"]), (StatusCode::OK, &"UP".into()));
    for field in ["timestamp", "uptime", "memory", "cpu", "dependencies"] {
        assert!(!report.body[field].is_null(), "{field} {}", report.body);
    }
    assert!(report.body["memory"]["percentage"].as_f64().unwrap() > 0.0);
    assert_eq!(report.body["dependencies"]["database"]["status"], "UP");

    redis.stop();
    let report = service.http.get("/health").await;
    assert_eq!((report.status, &report.body["status"]), (StatusCode::OK, &"DEGRADED".into()));
    assert_eq!(report.body["dependencies"]["redis"]["status"], "DOWN");
    assert!(report.body["dependencies"]["redis"]["error"].is_string(), "{}", report.body);

    cut_off(&database).await;
    assert_eq!(service.health().await, (StatusCode::SERVICE_UNAVAILABLE, "DOWN".to_owned()));
    let_in(&database).await;
    redis.resume();
    eventually("all is well again", async || service.health().await.1 == "UP").await;
}

/// A service that needs these neighbours.
async fn start_beside(neighbours: Vec<Neighbour>) -> Running {
    let settings = settings(&database().await, &[]);
    let serve = async move |listeners: Listeners, shutdown: CancellationToken| {
        let pool = store::pool(&settings);
        let needed = neighbours.into_iter().map(Dependency::Neighbour).collect();
        let service = Service::new(("odd", "1.2.3"), &settings, &pool, needed, &shutdown);
        service.describe(DOCUMENT)?;
        let parts = Parts { http: Router::new(), grpc: Routes::default(), prepare: async { Ok(()) } };
        service.run(listeners, parts).await
    };
    Running::start(serve).await
}

#[tokio::test]
async fn the_health_of_neighbours_is_what_calls_to_them_said_and_makes_none() {
    let (there, _) = start(settings(&database().await, &[]), None).await;
    let starting = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = starting.local_addr().unwrap();
    let near = Neighbour::new("near", &Endpoint::from_shared(there.grpc.clone()).unwrap());
    let far = Neighbour::new("far", &Endpoint::from_shared(format!("http://{at}")).unwrap());
    let service = start_beside(vec![near.clone(), far.clone()]).await;
    let report = service.http.get("/health").await.body;
    assert_eq!(
        (&report["status"], &report["dependencies"]["far"]),
        (&"UP".into(), &json!({"status": "UNKNOWN"}))
    );
    assert!(starting.accept().now_or_never().is_none(), "somebody asked a neighbour that is not up yet");

    drop(starting);
    let question = HealthCheckRequest { service: "nobody".into() };
    let answer = HealthClient::new(near).check(question.clone()).await;
    assert_eq!(answer.unwrap_err().code(), Code::NotFound);
    assert_eq!(service.health().await.1, "UP");
    HealthClient::new(far).check(question).await.unwrap_err();
    let report = service.http.get("/health").await.body;
    let (near, far) = (&report["dependencies"]["near"], &report["dependencies"]["far"]);
    assert_eq!(
        (&report["status"], &near["status"], &far["status"]),
        (&"DEGRADED".into(), &"UP".into(), &"DOWN".into())
    );
    assert!(near["latency_ms"].is_number() && far["error"].is_string(), "{report}");
}

#[tokio::test]
async fn a_pool_that_is_nearly_used_up_is_an_alarm_until_it_has_room_again() {
    let settings = settings(&database().await, &["--database-connections", "5"]);
    let (service, signals) = start(settings, None).await;
    let pool = signals.pool.get().unwrap();
    for held in [4, 5] {
        assert_eq!(service.health().await.1, "UP");
        // What health asked with goes back to the pool a moment after the answer.
        eventually("nobody holds a connection", async || pool.num_idle() == pool.size() as usize).await;
        let held = try_join_all((0..held).map(|_| pool.acquire())).await.unwrap();
        let report = service.http.get("/health").await;
        assert_eq!((report.status, &report.body["status"]), (StatusCode::OK, &"DEGRADED".into()));
        let database = &report.body["dependencies"]["database"];
        assert_eq!(database["error"], format!("{} of 5 connections are in use", held.len()), "{database}");
        let usage = &database["connections"];
        assert_eq!((&usage["in_use"], &usage["max"]), (&held.len().into(), &5.into()), "{database}");
        drop(held);
        eventually("there is room again", async || service.health().await.1 == "UP").await;
    }
}

#[tokio::test]
async fn the_document_and_the_protos_can_be_asked_for() {
    let (service, _) = start(settings(&database().await, &[]), None).await;
    let document = service.http.get("/openapi.json").await.body;
    assert_eq!((&document["openapi"], &document["info"]["version"]), (&"3.1.0".into(), &"1.2.3".into()));
    documented(&service.http, &[include_str!("tests.rs")]).await;
    let health = "grpc.health.v1.Health".to_owned();
    assert!(service.reflected().await.contains(&health));
}

#[tokio::test]
async fn grpc_health_says_serving() {
    let (service, _) = start(settings(&database().await, &[]), None).await;
    let mut health = HealthClient::new(service.channel());
    for name in ["", "odd"] {
        eventually("the service is serving", async || {
            let asked = health.check(HealthCheckRequest { service: name.into() }).await;
            asked.is_ok_and(|answer| answer.into_inner().status == 1)
        })
        .await;
    }
}

#[tokio::test]
async fn a_service_that_is_starting_is_down_and_can_be_stopped() {
    let nowhere = settings("postgres://shop@127.0.0.1:1/nowhere", &[]);
    let starting = async move |listeners: Listeners, shutdown: CancellationToken| {
        let pool = store::pool(&nowhere);
        let service = Service::new(("odd", "1.2.3"), &nowhere, &pool, Vec::new(), &shutdown);
        let migrations = sqlx::migrate::Migrator::DEFAULT;
        let prepare = async move {
            store::migrate(&pool, &migrations).await;
            Ok(())
        };
        let http = Router::new().route("/me", get(async || "me"));
        service.run(listeners, Parts { http, grpc: Routes::default(), prepare }).await
    };
    let service = Running::launch(starting).await;
    assert_eq!(service.health().await, (StatusCode::SERVICE_UNAVAILABLE, "DOWN".to_owned()));
    let reply = service.http.get("/me").await;
    assert_eq!(
        (reply.status, &reply.body["type"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"urn:problem:shop:starting".into())
    );
    service.stop().await.unwrap();
}

#[tokio::test]
async fn a_service_that_cannot_start_says_so() {
    let settings = settings(&database().await, &[]);
    let failing = async move |listeners: Listeners, shutdown: CancellationToken| {
        let pool = store::pool(&settings);
        let service = Service::new(("odd", "1.2.3"), &settings, &pool, Vec::new(), &shutdown);
        let prepare = async { Err(anyhow::anyhow!("on purpose")) };
        service.run(listeners, Parts { http: Router::new(), grpc: Routes::default(), prepare }).await
    };
    assert!(Running::launch(failing).await.ended().await.is_err());
}
