//! The order service: places orders with the user and product services, and tells the others of it.
//!
//! `api` speaks HTTP and gRPC, `domain` decides, `store` remembers, `neighbours` asks. Stock that was taken for an
//! order that came to nothing is always given back, at once or, after a crash, by the sweeper.

pub mod api;
pub mod domain;
pub mod neighbours;
pub mod settings;
pub mod store;

use std::sync::Arc;

use shop_kit::{
    client,
    events::Publisher,
    health::Dependency,
    redis::Redis,
    server::Listeners,
    service::{Parts, Service},
    store as kit_store,
};
use sqlx::migrate::Migrator;
use tokio_util::sync::CancellationToken;

use crate::{domain::Orders, neighbours::Neighbours, settings::Settings, store::Store};

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Serves until told to stop.
pub async fn serve(
    settings: Settings,
    listeners: Listeners,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let pool = kit_store::pool(&settings.common);
    let redis = Redis::new(settings.redis.redis_url.0)?;
    let (user, product) = (client::channel(&settings.user_url), client::channel(&settings.product_url));
    let needed = vec![
        Dependency::Redis(redis.clone()),
        Dependency::Neighbour("user", user.clone()),
        Dependency::Neighbour("product", product.clone()),
    ];
    let identity = ("order", env!("CARGO_PKG_VERSION"));
    let service = Service::new(identity, &settings.common, &pool, needed, &shutdown);
    service.describe(include_str!("../openapi.yaml"))?;
    let publisher = Publisher::new(pool.clone(), redis, service.metrics().clone());
    let orders = Arc::new(Orders {
        store: Store::new(pool.clone()),
        neighbours: Neighbours::new(user, product),
        publisher: publisher.clone(),
    });
    let prepare = {
        let (orders, service) = (orders.clone(), service.clone());
        let (every, abandoned) = (settings.sweep_every, settings.abandoned_after);
        async move {
            kit_store::migrate(&pool, &MIGRATIONS).await;
            service.background("outbox", publisher.run());
            service.background("sweeper", async move { orders.sweep(every, abandoned).await });
            Ok(())
        }
    };
    let http = api::http::router(orders.clone(), service.clone());
    let grpc = api::grpc::routes(orders, service.clone());
    service.run(listeners, Parts { http, grpc, prepare }).await
}
