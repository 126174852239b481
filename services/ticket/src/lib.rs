//! The ticket service: sells tickets of events: thousands ask at once, and no seat is sold twice.
//!
//! `api` speaks HTTP, `domain` decides, `desk` holds seats in one of two ways, `store` remembers, `redis` is what one of
//! the ways counts with, `payments` asks for money. What a crash leaves, and who puts it right, is a table in `domain`.

pub mod api;
pub mod desk;
pub mod domain;
pub mod payments;
pub mod redis;
pub mod settings;
pub mod store;

use std::sync::Arc;

use shop_kit::{
    events::{Consumer, Publisher, call::Responder},
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
    desk::{RowLock, Script},
    domain::{
        Tickets,
        catalogue::Catalogue,
        hear::{Ear, GROUP, STREAMS},
        purpose::{self, Purposes},
    },
    payments::Payments,
    redis::{link::Link, queue::Queue, writer::Writer},
    settings::Settings,
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
    let server = settings.redis.redis_url.0.clone();
    let redis = Redis::new(server.clone())?;
    let payment = Neighbour::new("payment", &settings.payment_url);
    let needed = vec![Dependency::Redis(redis.clone()), Dependency::Neighbour(payment.clone())];
    let identity = ("ticket", env!("CARGO_PKG_VERSION"));
    let service = Service::new(identity, &settings.common, &pool, needed, &shutdown);
    service.describe(include_str!("../openapi.yaml"))?;
    let publisher = Publisher::new(pool.clone(), redis, service.metrics().clone());
    let stores = (Store::new(pool.clone()), Link::new(server)?);
    let tickets = Arc::new(tickets(&settings, &service, stores, payment, &publisher));
    let writer = Writer {
        link: tickets.link.clone(),
        store: tickets.store.clone(),
        catalogue: tickets.catalogue.clone(),
        script: tickets.script.clone(),
        instance: service.instance().to_owned(),
    };
    let told =
        Consumer::new(&settings.redis, GROUP, service.instance(), &STREAMS, service.metrics().clone())?;
    let responder = Responder::new(&settings.redis, purpose::ADDRESS)?;
    let prepare = {
        let (tickets, service) = (tickets.clone(), service.clone());
        async move {
            kit_store::migrate(&pool, &MIGRATIONS).await;
            service.background("outbox", publisher.run());
            service.background("writer", writer.run());
            service.background("payments", told.run(Ear(tickets.clone())));
            service.background("purposes", responder.run(Purposes(tickets.clone())));
            let (sweeping, reconciling) = (tickets.clone(), tickets);
            service.background("sweeper", async move { sweeping.sweep(settings.sweep_every).await });
            service.background("reconcile", async move {
                reconciling.reconcile(settings.reconcile_every).await;
            });
            Ok(())
        }
    };
    let http = api::http::router(tickets, service.clone());
    service.run(listeners, Parts { http, grpc: Routes::default(), prepare }).await
}

fn tickets(
    settings: &Settings,
    service: &Service,
    (store, link): (Store, Link),
    payment: Neighbour,
    publisher: &Publisher,
) -> Tickets {
    let queue = Queue::new(link.clone());
    let lifetime = settings.reservation_lifetime;
    let metrics = service.metrics();
    Tickets {
        catalogue: Arc::new(Catalogue::new(store.clone())),
        row_lock: RowLock::new(store.clone(), queue.clone(), lifetime),
        script: Arc::new(Script::new(link.clone(), store.clone(), lifetime)),
        store,
        link,
        queue,
        payments: Payments::new(payment),
        publisher: publisher.clone(),
        settle_after: settings.settle_after,
        abandoned_after: settings.abandoned_after,
        reservations: metrics.counter(
            "shop_ticket_reservations_total",
            "Reservations asked for.",
            &["strategy", "outcome"],
        ),
        differences: metrics.counter(
            "shop_ticket_differences_total",
            "Differences between Redis and the database.",
            &["kind"],
        ),
    }
}
