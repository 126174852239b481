//! The product service: the catalogue, its search, and a stock that never goes below 0.
//!
//! `api` speaks HTTP and gRPC, `domain` decides, `store` remembers: PostgreSQL holds the truth, Redis the cache and
//! the lock. Without Redis it is slower and nothing else.

pub mod api;
pub mod domain;
pub mod settings;
pub mod store;

use std::sync::Arc;

use shop_kit::{
    health::Dependency,
    redis::Redis,
    server::Listeners,
    service::{Parts, Service},
    store as kit_store,
};
use sqlx::migrate::Migrator;
use tokio_util::sync::CancellationToken;

use crate::{
    domain::Products,
    settings::Settings,
    store::{Store, cache::Cache, feed::Feed, flights::Flights, lock::Lock, near::Near},
};

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Serves until told to stop.
pub async fn serve(
    settings: Settings,
    listeners: Listeners,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let pool = kit_store::pool(&settings.common);
    let channels = redis::Client::open(settings.redis.redis_url.0.clone())?;
    let redis = Redis::new(settings.redis.redis_url.0)?;
    let identity = ("product", env!("CARGO_PKG_VERSION"));
    let needed = vec![Dependency::Redis(redis.clone())];
    let service = Service::new(identity, &settings.common, &pool, needed, &shutdown);
    service.describe(include_str!("../openapi.yaml"))?;
    let products = Arc::new(Products {
        store: Store::new(pool.clone()),
        near: Near::new(settings.near_cache),
        cache: Cache::new(redis.clone(), service.metrics().clone()),
        loads: Flights::new(),
        lock: Lock::new(redis),
        feed: Feed::new(),
    });
    let prepare = {
        let (products, service) = (products.clone(), service.clone());
        async move {
            kit_store::migrate(&pool, &MIGRATIONS).await;
            if settings.seed {
                products.seed().await?;
            }
            let (following, forgetting, hearing) = (products.clone(), products.clone(), products);
            service.background("near cache", async move { hearing.near.follow(&channels).await });
            service.background("feed", async move { following.feed.follow(&following.store).await });
            service.background("old operations", async move { forgetting.forget_old_operations().await });
            Ok(())
        }
    };
    let grpc = api::grpc::routes(products.clone(), service.closing().clone());
    service.run(listeners, Parts { http: api::http::router(products), grpc, prepare }).await
}
