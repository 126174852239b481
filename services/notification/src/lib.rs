//! The notification service: tells people what happened to their orders, payments and tickets.
//!
//! `domain` hears an event and writes down what its user is to be told, `delivery` sends what is written down through
//! `channels`, `users` knows where users are reached, `store` remembers, `api` shows.

pub mod api;
pub mod channels;
pub mod delivery;
pub mod domain;
pub mod settings;
pub mod store;
pub mod users;

use std::sync::Arc;

use anyhow::Context as _;
use shop_kit::{
    events::{Consumer, Publisher, inbox},
    health::Dependency,
    neighbour::Neighbour,
    redis::Redis,
    server::Listeners,
    service::{Parts, Service},
    store as kit_store,
};
use sqlx::migrate::Migrator;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{
    channels::{Way, email::Email, provider::Provider},
    delivery::{Delivery, Wake},
    domain::{
        Listener, Notifications,
        message::Means,
        template::{EVENTS, Templates},
    },
    settings::Settings,
    store::{CONSUMER, Store},
    users::Users,
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
    let needed = vec![Dependency::Redis(redis.clone()), Dependency::Neighbour(user.clone())];
    let identity = ("notification", env!("CARGO_PKG_VERSION"));
    let service = Service::new(identity, &settings.common, &pool, needed, &shutdown);
    service.describe(include_str!("../openapi.yaml"))?;
    let metrics = service.metrics();
    let consumer = Consumer::new(&settings.redis, CONSUMER, service.instance(), EVENTS, metrics.clone())?
        .stale_after(settings.take_over_after);
    let publisher = Publisher::new(pool.clone(), redis, metrics.clone());
    let (store, wake) = (Store::new(pool.clone()), Wake::default());
    let deliveries: Vec<Delivery> = channels(&settings)?
        .into_iter()
        .map(|(means, channel)| Delivery {
            means,
            channel,
            store: store.clone(),
            patience: settings.patience(),
            publisher: publisher.clone(),
            wake: wake.clone(),
        })
        .collect();
    let templates = Templates::new().context("reading the templates")?;
    let notifications = Arc::new(Notifications { store, users: Users::new(user), templates, wake });
    let prepare = {
        let (notifications, service) = (notifications.clone(), service.clone());
        async move {
            kit_store::migrate(&pool, &MIGRATIONS).await;
            service.background("outbox", publisher.run());
            service.background("consumer", consumer.run(Listener(notifications)));
            service.background("inbox", inbox::forget_old(pool));
            for delivery in deliveries {
                service.background("delivery", delivery.run());
            }
            Ok(())
        }
    };
    let http = api::http::router(notifications);
    service.run(listeners, Parts { http, grpc: Routes::default(), prepare }).await
}

fn channels(settings: &Settings) -> anyhow::Result<[Way; 3]> {
    let longest = settings.patience().longest_send();
    let email = Email::new(&settings.smtp_url.0, settings.sender.clone(), longest).context("SMTP_URL")?;
    Ok([
        (Means::Email, Box::new(email)),
        (Means::Sms, Box::new(Provider::new(settings.sms_url.clone(), longest))),
        (Means::Push, Box::new(Provider::new(settings.push_url.clone(), longest))),
    ])
}
