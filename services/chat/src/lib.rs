//! The chat service: keeps rooms in which people talk over WebSockets, whichever instance they are connected to.
//!
//! `api` takes requests, `socket` makes WebSockets of them, `connection` is the life of one. `rooms` hands messages to the
//! members here in their order, `relay` brings them to other instances by Redis, `store` keeps them in PostgreSQL, which
//! alone decides what was said: Redis may lose anything.

pub mod api;
pub mod chat;
pub mod connection;
pub mod domain;
pub mod metrics;
pub mod people;
pub mod presence;
pub mod quota;
pub mod relay;
pub mod rooms;
pub mod seen;
pub mod settings;
pub mod socket;
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
use tonic::service::Routes;

use crate::{
    chat::Chat, metrics::Counters, people::People, presence::Presence, quota::Quota, relay::Relay,
    rooms::Rooms, seen::Acknowledged, settings::Settings, store::Store,
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
    let needed = vec![Dependency::Redis(redis.clone())];
    let identity = ("chat", env!("CARGO_PKG_VERSION"));
    let service = Service::new(identity, &settings.common, &pool, needed, &shutdown);
    service.describe(include_str!("../openapi.yaml"))?;
    let chat = Arc::new(assemble(&settings, redis, Store::new(pool.clone()), service.clone())?);
    let prepare = {
        let (chat, service) = (chat.clone(), service.clone());
        async move {
            kit_store::migrate(&pool, &MIGRATIONS).await;
            start(&chat, &service);
            Ok(())
        }
    };
    let http = api::http::router(chat).merge(api::page::router());
    service.run(listeners, Parts { http, grpc: Routes::default(), prepare }).await
}

fn assemble(settings: &Settings, redis: Redis, store: Store, service: Arc<Service>) -> anyhow::Result<Chat> {
    let rooms = Arc::new(Rooms::new(store.clone(), service.clone(), settings.queue.into()));
    let relay = Arc::new(Relay::new(settings.redis.redis_url.0.clone(), redis.clone(), rooms.clone())?);
    let counters = Counters::new(service.metrics());
    Ok(Chat {
        quota: Quota::new(redis.clone(), settings.pace(), counters.clone()),
        presence: Presence::new(redis, relay.clone(), settings.presence_timeout),
        people: Arc::new(People::new(settings.pace(), settings.connections_per_user.into())),
        acknowledged: Arc::new(Acknowledged::new(store.clone())),
        counters,
        patience: settings.patience(),
        store,
        rooms,
        relay,
        service,
    })
}

/// Begins what goes on beside the connections.
fn start(chat: &Arc<Chat>, service: &Service) {
    let part = chat.clone();
    service.background("relay", async move { part.relay.listen().await });
    let part = chat.clone();
    service.background("unheard messages", async move { part.rooms.watch().await });
    let part = chat.clone();
    service.background("presence", async move { part.presence.renew().await });
    let part = chat.clone();
    service.background("people", async move { part.people.forget().await });
    let (acknowledged, closing) = (chat.acknowledged.clone(), service.closing().clone());
    service.linger(async move { acknowledged.write(closing).await });
}
