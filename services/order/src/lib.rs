//! The order service: places orders with the user, product and payment services, and tells the others of it.
//!
//! `api` speaks HTTP and gRPC, `domain` decides, `store` remembers, `neighbours` asks, `inbox` hears what became of
//! payments, `purpose` answers what one is for. Stock that was taken and money that was paid for an order that came to
//! nothing are always given back, at once or, after a crash, by the sweeper of any instance.

pub mod api;
pub mod domain;
pub mod inbox;
pub mod neighbours;
pub mod purpose;
pub mod settings;
pub mod store;

use std::sync::Arc;

use shop_kit::{
    events::{self, Consumer, Publisher, call::Responder},
    health::Dependency,
    neighbour::Neighbour,
    redis::Redis,
    server::Listeners,
    service::{Parts, Service},
    store as kit_store,
};
use sqlx::migrate::Migrator;
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{Orders, Timing},
    inbox::Inbox,
    neighbours::Neighbours,
    purpose::Purposes,
    settings::Settings,
    store::{CONSUMER, Store},
};

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Serves until told to stop.
pub async fn serve(
    settings: Settings,
    listeners: Listeners,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let pool = kit_store::pool(&settings.common);
    let redis = Redis::new(settings.redis.redis_url.0.clone())?;
    let user = Neighbour::new("user", &settings.user_url);
    let product = Neighbour::new("product", &settings.product_url);
    let payment = Neighbour::new("payment", &settings.payment_url);
    let needed = vec![
        Dependency::Redis(redis.clone()),
        Dependency::Neighbour(user.clone()),
        Dependency::Neighbour(product.clone()),
        Dependency::Neighbour(payment.clone()),
    ];
    let identity = ("order", env!("CARGO_PKG_VERSION"));
    let service = Service::new(identity, &settings.common, &pool, needed, &shutdown);
    service.describe(include_str!("../openapi.yaml"))?;
    let metrics = service.metrics().clone();
    let publisher = Publisher::new(pool.clone(), redis, metrics.clone());
    let consumer = Consumer::new(&settings.redis, CONSUMER, service.instance(), &inbox::STREAMS, metrics)?;
    let responder = Responder::new(&settings.redis, purpose::ADDRESS)?;
    let orders = Arc::new(Orders {
        store: Store::new(pool.clone()),
        neighbours: Neighbours::new(user, product, payment),
        publisher: publisher.clone(),
        timing: Timing::new(&settings),
    });
    let prepare = {
        let (orders, service) = (orders.clone(), service.clone());
        async move {
            kit_store::migrate(&pool, &MIGRATIONS).await;
            service.background("outbox", publisher.run());
            service.background("inbox", consumer.run(Inbox::new(orders.clone())));
            service.background("old events", events::inbox::forget_old(pool));
            service.background("purposes", responder.run(Purposes(orders.clone())));
            service.background("sweeper", async move { orders.sweep().await });
            Ok(())
        }
    };
    let http = api::http::router(orders.clone(), service.clone());
    let grpc = api::grpc::routes(orders, service.clone());
    // On the heap: a service with all that it waits for is large.
    Box::pin(service.run(listeners, Parts { http, grpc, prepare })).await
}
