//! The payment service: takes payments through a provider that may fail or be slow, and each of them once.
//!
//! `api` speaks HTTP and gRPC, `domain` decides, `store` remembers, `provider` takes the money. What the provider did
//! not answer stays open, and the sweeper of any instance asks again.

pub mod api;
pub mod domain;
pub mod provider;
pub mod purpose;
pub mod settings;
pub mod signature;
pub mod store;

use std::{net::Ipv4Addr, sync::Arc};

use shop_kit::{
    events::{
        Publisher,
        call::{Policy, RedisBus},
    },
    health::Dependency,
    redis::Redis,
    server::Listeners,
    service::{Parts, Service},
    settings::Common,
    store as kit_store,
};
use sqlx::migrate::Migrator;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    domain::Payments,
    provider::simulated::{Moods, Simulated, callbacks::Callbacks},
    purpose::Purposes,
    settings::Settings,
    signature::Key,
    store::Store,
};

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Serves until told to stop.
pub async fn serve(
    settings: Settings,
    listeners: Listeners,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let pool = kit_store::pool(&settings.common);
    // The provider is somebody else: it shares no connection, and so no transaction, with this service.
    let outside = kit_store::pool(&Common {
        database_connections: settings.common.database_connections.div_ceil(2),
        ..settings.common.clone()
    });
    let redis = Redis::new(settings.redis.redis_url.0.clone())?;
    let needed = vec![Dependency::Redis(redis.clone())];
    let identity = ("payment", env!("CARGO_PKG_VERSION"));
    let service = Service::new(identity, &settings.common, &pool, needed, &shutdown);
    service.describe(include_str!("../openapi.yaml"))?;
    let publisher = Publisher::new(pool.clone(), redis, service.metrics().clone());
    let bus =
        RedisBus::new(&settings.redis, service.instance(), service.metrics().clone(), Policy::default())?;
    let key = key(&settings);
    let callbacks = Callbacks::new(outside.clone(), key.clone(), callback_url(&settings, &listeners)?);
    let payments = Arc::new(Payments {
        store: Store::new(pool.clone()),
        provider: Box::new(Simulated::new(outside, moods(&settings))),
        publisher: publisher.clone(),
        key,
        patience: settings.provider_timeout,
        longest_wait: settings.longest_wait,
    });
    let prepare = {
        let (payments, service, every) = (payments.clone(), service.clone(), settings.sweep_every);
        let answers = bus.clone();
        async move {
            kit_store::migrate(&pool, &MIGRATIONS).await;
            let (sweeping, forgetting) = (payments.clone(), payments);
            service.background("outbox", publisher.run());
            service.background("sweeper", async move { sweeping.sweep(every).await });
            service.background("old callbacks", async move { forgetting.forget_old_callbacks().await });
            service.background("simulated callbacks", callbacks.run());
            service.background("answers", answers.run());
            Ok(())
        }
    };
    let http = api::http::router(payments.clone(), service.clone(), Purposes::new(bus));
    let grpc = api::grpc::routes(payments, service.clone());
    service.run(listeners, Parts { http, grpc, prepare }).await
}

fn moods(settings: &Settings) -> Moods {
    Moods {
        delay: settings.provider_delay,
        failures: settings.provider_failures,
        callback_delay: settings.callback_delay,
    }
}

fn key(settings: &Settings) -> Key {
    match &settings.callback_secret {
        Some(secret) => Key::new(secret.0.as_bytes()),
        None => Key::new(&[*Uuid::new_v4().as_bytes(), *Uuid::new_v4().as_bytes()].concat()),
    }
}

fn callback_url(settings: &Settings, listeners: &Listeners) -> std::io::Result<String> {
    if let Some(url) = &settings.callback_url {
        return Ok(url.to_string());
    }
    let mut here = listeners.http.local_addr()?;
    if here.ip().is_unspecified() {
        here.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    Ok(format!("http://{here}/payments/callback"))
}
