//! Catalogue, stock, cache and lock over both APIs, against a real PostgreSQL and Redis.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::time::Duration;

use clap::Parser as _;
use futures_util::future::join_all;
use http::StatusCode;
use redis::cmd;
use serde_json::{Value, json};
use shop_kit::{
    metrics::Metrics,
    pb::product::{
        GetProductRequest, SearchProductsRequest, UpdateStockRequest, WatchProductsRequest,
        product_service_client::ProductServiceClient,
    },
    redis::Redis,
    testing::{Http, RedisServer, Running, database, documented, eventually, redis as redis_database},
};
use shop_product::{
    domain::product::{Product, StockChange},
    settings::Settings,
    store::{Store, StoreError, cache::Cache, lock::Lock},
};
use sqlx::{Connection as _, PgConnection, PgPool};
use time::OffsetDateTime;
use tokio::time::Instant;
use tonic::{Code, transport::Channel};
use uuid::Uuid;

async fn start(database: &str, redis: &str, more: &[&str]) -> Running {
    let fixed = ["shop-product", "--database-url", database, "--redis-url", redis];
    let settings = Settings::parse_from([&fixed, more].concat());
    Running::start(|listeners, shutdown| shop_product::serve(settings, listeners, shutdown)).await
}

async fn fresh() -> (Running, Redis) {
    let redis = redis_database().await;
    (start(&database().await, &redis, &[]).await, connect(&redis))
}

fn connect(url: &str) -> Redis {
    Redis::new(url.parse().unwrap()).unwrap()
}

async fn add(http: &Http, name: &str, stock: i64) -> Uuid {
    let reply =
        http.post("/products", json!({"name": name, "price": 1999, "currency": "EUR", "stock": stock})).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{reply:?}");
    reply.body["id"].as_str().unwrap().parse().unwrap()
}

async fn stock(http: &Http, id: Uuid) -> i64 {
    http.get(&format!("/products/{id}")).await.body["stock"].as_i64().unwrap()
}

async fn cached(redis: &Redis, id: Uuid) -> Option<Value> {
    let text: Option<String> = redis.run(cmd("GET").arg(format!("product:{id}"))).await.unwrap();
    text.map(|text| serde_json::from_str(&text).unwrap())
}

fn update(id: Uuid, delta: i64, operation: &str, revoke: bool) -> UpdateStockRequest {
    UpdateStockRequest { product_id: id.to_string(), delta, operation_id: operation.into(), revoke }
}

#[tokio::test]
async fn the_api_is_described() {
    let (service, _) = fresh().await;
    documented(&service.http, &[include_str!("../src/api/http.rs")]).await;
    assert!(service.reflected().await.contains(&"shop.product.v1.ProductService".to_owned()));
}

#[tokio::test]
async fn products_are_found_page_by_page() {
    let (service, _) = fresh().await;
    for i in 0..5 {
        add(&service.http, &format!("Lamp {i}"), i).await;
    }
    add(&service.http, "100% wool_sock", 1).await;
    for (query, expect, total) in [
        ("", 6, 6),
        ("?query=lamp", 5, 5),
        ("?query=LAMP&per_page=2&page=3", 1, 5),
        ("?query=lamp&page=9", 0, 5),
        ("?query=100%25", 1, 1),
        ("?query=l_mp", 0, 0),
        ("?query=%25", 1, 1),
        ("?query=%00", 0, 0),
    ] {
        let reply = service.http.get(&format!("/products{query}")).await;
        let found = reply.body["items"].as_array().map(Vec::len);
        assert_eq!(
            (found, reply.body["total"].as_u64()),
            (Some(expect), Some(total)),
            "{query} {}",
            reply.body
        );
    }
    assert_eq!(service.http.get("/products?per_page=101").await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(service.http.get("/products?page=x").await.status, StatusCode::BAD_REQUEST);
    service.stop().await.unwrap();
}

#[tokio::test]
async fn bad_products_and_unknown_ids_are_refused() {
    let (service, _) = fresh().await;
    let reply = service.http.post("/products", json!({"name": "", "price": -1, "currency": "euro"})).await;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(reply.body["errors"].as_array().unwrap().len(), 3, "{}", reply.body);
    for path in ["/products/no-uuid".to_owned(), format!("/products/{}", Uuid::new_v4())] {
        assert_eq!(service.http.get(&path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let path = format!("/products/{}/stock", Uuid::new_v4());
    assert_eq!(service.http.patch(&path, json!({"delta": 1})).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_read_fills_the_cache_and_a_change_drops_it() {
    let database = database().await;
    let redis_url = redis_database().await;
    let (service, redis) = (start(&database, &redis_url, &[]).await, connect(&redis_url));
    let id = add(&service.http, "Lamp", 5).await;
    assert_eq!(stock(&service.http, id).await, 5);
    assert_eq!(cached(&redis, id).await.unwrap()["stock"], 5);
    let left: i64 = redis.run(cmd("TTL").arg(format!("product:{id}"))).await.unwrap();
    assert!((530..=660).contains(&left), "{left}");

    // What is read again comes from the cache, not from the row.
    let mut row = PgConnection::connect(&database).await.unwrap();
    sqlx::query("UPDATE products SET stock = 99 WHERE id = $1").bind(id).execute(&mut row).await.unwrap();
    assert_eq!(stock(&service.http, id).await, 5);

    let reply = service.http.patch(&format!("/products/{id}/stock"), json!({"delta": -9})).await;
    assert_eq!((reply.status, &reply.body["stock"]), (StatusCode::OK, &json!(90)));
    assert!(cached(&redis, id).await.is_none());
    assert_eq!(stock(&service.http, id).await, 90);
    let metrics = service.http.get("/metrics").await.body.as_str().unwrap().to_owned();
    assert!(metrics.contains("shop_cache_requests_total{outcome=\"hit\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_slow_reader_does_not_put_back_what_changed_meanwhile() {
    let redis = connect(&redis_database().await);
    let cache = Cache::new(redis.clone(), Metrics::new());
    let product: Product = serde_json::from_value(json!({
        "id": Uuid::new_v4(), "name": "Lamp", "description": "", "price": 1, "currency": "EUR", "stock": 5,
        "updated": "2026-01-01T00:00:00Z",
    }))
    .unwrap();
    let slow = cache.get(product.id).await.unwrap_err();
    let late = cache.get(product.id).await.unwrap_err();
    cache.drop(product.id).await;
    cache.fill(slow, &product).await;
    cache.fill(late, &product).await;
    assert!(cached(&redis, product.id).await.is_none());

    let quick = cache.get(product.id).await.unwrap_err();
    cache.fill(quick, &product).await;
    assert_eq!(cache.get(product.id).await.ok(), Some(product));
}

fn change(id: Uuid, delta: i64, operation: &str) -> StockChange {
    StockChange { product_id: id, delta, operation: Some(operation.into()), revoke: false }
}

#[tokio::test]
async fn a_holder_whose_lock_ran_out_cannot_write_over_the_next_one() {
    let (database, redis_url) = (database().await, redis_database().await);
    let (service, redis) = (start(&database, &redis_url, &[]).await, connect(&redis_url));
    let id = add(&service.http, "Lamp", 10).await;
    let store = Store::new(PgPool::connect(&database).await.unwrap());
    let (lock, soon) = (Lock::new(redis.clone()), Instant::now() + Duration::from_secs(1));
    let now = OffsetDateTime::now_utc();

    let paused = lock.acquire(id, soon).await;
    store.update_stock(&change(id, -1, "first"), paused.token(), now).await.unwrap();
    redis.run::<()>(cmd("DEL").arg(format!("lock:product:{id}"))).await.unwrap();
    let next = lock.acquire(id, soon).await;
    assert!(next.token() > paused.token(), "{next:?} {paused:?}");
    // As long as nobody wrote with the later token, the earlier one harms nobody.
    store.update_stock(&change(id, -1, "second"), paused.token(), now).await.unwrap();
    store.update_stock(&change(id, -1, "third"), next.token(), now).await.unwrap();
    let late = store.update_stock(&change(id, -1, "late"), paused.token(), now).await;
    assert!(matches!(late, Err(StoreError::Outrun)), "{late:?}");
    assert_eq!(stock(&service.http, id).await, 7);

    // The refused change left no trace: it can be made in its own turn. And the row does without a lock.
    lock.release(next).await;
    let again = lock.acquire(id, soon).await;
    store.update_stock(&change(id, -1, "late"), again.token(), now).await.unwrap();
    let free = store.update_stock(&change(id, -1, "free"), None, now).await.unwrap();
    assert_eq!(free.stock, 5);
    let gone = store.update_stock(&change(id, -6, "too much"), again.token(), now).await;
    assert!(matches!(gone, Err(StoreError::OutOfStock)), "{gone:?}");
}

#[tokio::test]
async fn tokens_go_on_after_redis_has_lost_them() {
    let server = RedisServer::start();
    let (lock, id) = (Lock::new(connect(&server.url())), Uuid::new_v4());
    let mut last = None;
    for forgets in [false, false, true] {
        if forgets {
            server.stop();
            server.resume();
        }
        eventually("there is a lock with a larger token", async || {
            let held = lock.acquire(id, Instant::now() + Duration::from_secs(1)).await;
            let token = held.token();
            lock.release(held).await;
            let larger = token > last;
            last = last.max(token);
            larger
        })
        .await;
    }
}

#[tokio::test]
async fn products_kept_in_the_process_are_dropped_when_another_instance_changes_them() {
    let (database, redis) = (database().await, redis_database().await);
    let near = ["--near-cache", "1h"];
    let (a, b) = (start(&database, &redis, &near).await, start(&database, &redis, &near).await);
    let id = add(&a.http, "Lamp", 5).await;
    let mut row = PgConnection::connect(&database).await.unwrap();
    eventually("the process answers by itself", async || {
        let before = stock(&a.http, id).await;
        sqlx::query("UPDATE products SET stock = stock + 1 WHERE id = $1")
            .bind(id)
            .execute(&mut row)
            .await
            .unwrap();
        connect(&redis).run::<()>(cmd("DEL").arg(format!("product:{id}"))).await.unwrap();
        stock(&a.http, id).await == before
    })
    .await;
    let patched = b.http.patch(&format!("/products/{id}/stock"), json!({"delta": 1})).await;
    let now = patched.body["stock"].as_i64().unwrap();
    eventually("the change is heard", async || stock(&a.http, id).await == now).await;
}

#[tokio::test]
async fn products_are_found_by_the_beginnings_of_their_words_best_first() {
    let (service, _) = fresh().await;
    for (name, description) in [
        ("Coffee grinder", "Steel burrs, hardly a sound."),
        ("Tea kettle", "Not for coffee. O'Neill's choice, 1.5 l."),
        ("Cup", "For tea & coffee | both"),
    ] {
        let body = json!({"name": name, "description": description, "price": 1, "currency": "EUR"});
        assert_eq!(service.http.post("/products", body).await.status, StatusCode::CREATED);
    }
    for (query, expect) in [
        ("coffee", &["Coffee grinder", "Cup", "Tea kettle"][..]),
        ("cof%20te", &["Cup", "Tea kettle"]),
        ("STEEL%20coffee", &["Coffee grinder"]),
        ("o%27neill", &["Tea kettle"]),
        ("1.5", &["Tea kettle"]),
        ("ffee", &[]),
        ("coffee%20%7C%20steel", &["Coffee grinder"]),
        ("%7C", &["Cup"]),
        ("%21%28", &[]),
        ("%27%3B%20DROP%20TABLE%20products%3B--", &[]),
        ("a%5C%27b", &[]),
    ] {
        let reply = service.http.get(&format!("/products?query={query}")).await;
        assert_eq!(reply.status, StatusCode::OK, "{query} {reply:?}");
        let names: Vec<_> =
            reply.body["items"].as_array().unwrap().iter().map(|item| &item["name"]).collect();
        let mut sorted = names.clone();
        sorted.sort_by_key(|name| name.as_str());
        assert_eq!(sorted, expect, "{query}");
        assert!(names.is_empty() || query != "coffee" || names[0] == "Coffee grinder", "{names:?}");
    }
    assert_eq!(service.http.get("/products").await.body["total"], 3);
}

#[tokio::test]
async fn a_lock_is_only_released_by_its_holder() {
    let redis = connect(&redis_database().await);
    let lock = Lock::new(redis.clone());
    let id = Uuid::new_v4();
    let key = format!("lock:product:{id}");
    let soon = || Instant::now() + Duration::from_millis(200);

    let held = lock.acquire(id, soon()).await;
    assert!(held.is_held());
    let left: i64 = redis.run(cmd("PTTL").arg(&key)).await.unwrap();
    assert!((29_000..=30_000).contains(&left), "{left}");
    assert!(!lock.acquire(id, soon()).await.is_held(), "the lock is held by another");

    // The lock ended and somebody else took it: the late release must leave it alone.
    redis.run::<()>(cmd("SET").arg(&key).arg("somebody else")).await.unwrap();
    lock.release(held).await;
    assert_eq!(redis.run::<String>(cmd("GET").arg(&key)).await.unwrap(), "somebody else");

    redis.run::<()>(cmd("DEL").arg(&key)).await.unwrap();
    let held = lock.acquire(id, soon()).await;
    lock.release(held).await;
    assert_eq!(redis.run::<Option<String>>(cmd("GET").arg(&key)).await.unwrap(), None);
}

/// 50 take one each of 20, over two instances.
async fn fifty_take_one_of_twenty(redis: &str) {
    let database = database().await;
    let (a, b) = (start(&database, redis, &[]).await, start(&database, redis, &[]).await);
    let id = add(&a.http, "Ticket", 20).await;
    let channels: [Channel; 2] = [a.channel(), b.channel()];
    let take = |i: usize| {
        let mut grpc = ProductServiceClient::new(channels[i % 2].clone());
        async move { grpc.update_stock(update(id, -1, "", false)).await }
    };
    let results = join_all((0..50).map(take)).await;
    let taken = results.iter().filter(|result| result.is_ok()).count();
    let refused =
        results.iter().filter(|r| r.as_ref().is_err_and(|s| s.code() == Code::FailedPrecondition)).count();
    assert_eq!((taken, refused), (20, 30), "{results:?}");
    assert_eq!(stock(&b.http, id).await, 0);
}

#[tokio::test]
async fn stock_never_goes_below_zero_under_concurrent_changes() {
    fifty_take_one_of_twenty(&redis_database().await).await;
}

#[tokio::test]
async fn stock_never_goes_below_zero_without_redis() {
    let server = RedisServer::start();
    server.stop();
    fifty_take_one_of_twenty(&server.url()).await;
    server.resume();
}

#[tokio::test]
async fn an_operation_is_applied_once() {
    let (service, _) = fresh().await;
    let id = add(&service.http, "Lamp", 10).await;
    let mut grpc = ProductServiceClient::new(service.channel());
    for _ in 0..3 {
        let product = grpc.update_stock(update(id, -4, "op-1", false)).await.unwrap().into_inner();
        assert_eq!(product.stock, 6);
    }
    let again = (0..8).map(|_| {
        let mut grpc = ProductServiceClient::new(service.channel());
        async move { grpc.update_stock(update(id, -1, "op-2", false)).await.unwrap() }
    });
    join_all(again).await;
    assert_eq!(stock(&service.http, id).await, 5);
    let other = grpc.update_stock(update(id, -5, "op-1", false)).await.unwrap_err();
    assert_eq!(other.code(), Code::FailedPrecondition, "{other}");

    let http = service.http.header("idempotency-key", "op-3");
    for _ in 0..2 {
        let reply = http.patch(&format!("/products/{id}/stock"), json!({"delta": 1})).await;
        assert_eq!((reply.status, &reply.body["stock"]), (StatusCode::OK, &json!(6)));
    }
}

#[tokio::test]
async fn a_revoked_operation_has_no_effect_before_or_after() {
    let (service, _) = fresh().await;
    let id = add(&service.http, "Lamp", 10).await;
    let mut grpc = ProductServiceClient::new(service.channel());
    grpc.update_stock(update(id, -4, "applied", false)).await.unwrap();
    for _ in 0..2 {
        let product = grpc.update_stock(update(id, -4, "applied", true)).await.unwrap().into_inner();
        assert_eq!(product.stock, 10);
    }
    grpc.update_stock(update(id, -4, "late", true)).await.unwrap();
    let late = grpc.update_stock(update(id, -4, "late", false)).await.unwrap_err();
    assert_eq!(late.code(), Code::FailedPrecondition);
    assert_eq!(stock(&service.http, id).await, 10);

    // An operation that failed leaves no trace: with more stock it can be made.
    assert!(grpc.update_stock(update(id, -11, "big", false)).await.is_err());
    grpc.update_stock(update(id, 1, "", false)).await.unwrap();
    assert_eq!(grpc.update_stock(update(id, -11, "big", false)).await.unwrap().into_inner().stock, 0);
}

#[tokio::test]
async fn without_redis_the_service_is_degraded_and_serves() {
    let server = RedisServer::start();
    let service = start(&database().await, &server.url(), &[]).await;
    assert_eq!(service.health().await, (StatusCode::OK, "UP".to_owned()));
    let id = add(&service.http, "Lamp", 5).await;
    assert_eq!(stock(&service.http, id).await, 5);

    server.stop();
    assert_eq!(service.health().await, (StatusCode::OK, "DEGRADED".to_owned()));
    let reply = service.http.patch(&format!("/products/{id}/stock"), json!({"delta": -1})).await;
    assert_eq!((reply.status, &reply.body["stock"]), (StatusCode::OK, &json!(4)));
    assert_eq!(stock(&service.http, id).await, 4);

    server.resume();
    eventually("redis is used again", async || service.health().await.1 == "UP").await;
    assert_eq!(stock(&service.http, id).await, 4);
    assert_eq!(cached(&connect(&server.url()), id).await.unwrap()["stock"], 4);
}

#[tokio::test]
async fn watchers_hear_of_changes_made_by_any_instance() {
    let (database, redis) = (database().await, redis_database().await);
    let (a, b) = (start(&database, &redis, &[]).await, start(&database, &redis, &[]).await);
    let (id, other) = (add(&a.http, "Lamp", 5).await, add(&a.http, "Chair", 5).await);
    let mut grpc = ProductServiceClient::new(a.channel());
    let watch = WatchProductsRequest { ids: vec![id.to_string()] };
    let mut changes = grpc.watch_products(watch).await.unwrap().into_inner();

    // The instance may still be on its way to listening, so change until a change is heard.
    let mut first = None;
    eventually("the first change is heard", async || {
        b.http.patch(&format!("/products/{id}/stock"), json!({"delta": 1})).await;
        let heard = tokio::time::timeout(Duration::from_millis(300), changes.message()).await;
        first = heard.ok().and_then(|message| message.unwrap());
        first.is_some()
    })
    .await;
    assert_eq!(first.unwrap().product.unwrap().id, id.to_string());

    b.http.patch(&format!("/products/{other}/stock"), json!({"delta": 1})).await;
    b.http.patch(&format!("/products/{id}/stock"), json!({"delta": 1000})).await;
    loop {
        let product = changes.message().await.unwrap().unwrap().product.unwrap();
        assert_eq!(product.id, id.to_string(), "the other product was not asked for");
        if product.stock > 1000 {
            break;
        }
    }
    a.begin_stop();
    assert!(changes.message().await.unwrap().is_none(), "the stream ends when the service stops");
}

#[tokio::test]
async fn the_catalogue_is_seeded_once() {
    let (database, redis) = (database().await, redis_database().await);
    let seed = ["--seed", "true"];
    let (a, _b) = tokio::join!(start(&database, &redis, &seed), start(&database, &redis, &seed));
    let total = a.http.get("/products").await.body["total"].as_u64().unwrap();
    assert_eq!(total, 8);
    let again = start(&database, &redis, &seed).await;
    assert_eq!(again.http.get("/products").await.body["total"].as_u64(), Some(8));
}

#[tokio::test]
async fn grpc_does_what_json_does() {
    let (service, _) = fresh().await;
    let id = add(&service.http, "Lamp", 5).await;
    let mut grpc = ProductServiceClient::new(service.channel());
    let product = grpc.get_product(GetProductRequest { id: id.to_string() }).await.unwrap().into_inner();
    assert_eq!((product.price, product.currency.as_str(), product.stock), (1999, "EUR", 5));
    let search = SearchProductsRequest { query: "lam".into(), ..Default::default() };
    let found = grpc.search_products(search).await.unwrap().into_inner();
    assert_eq!((found.total, &found.products[0]), (1, &product));
    let unknown = GetProductRequest { id: Uuid::new_v4().to_string() };
    assert_eq!(grpc.get_product(unknown).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(
        grpc.update_stock(update(id, -6, "", false)).await.unwrap_err().code(),
        Code::FailedPrecondition
    );
    assert_eq!(grpc.update_stock(update(id, 0, "", false)).await.unwrap_err().code(), Code::InvalidArgument);
}
