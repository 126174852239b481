//! The chat service: keeps rooms in which people talk over `WebSockets`, whichever instance they are connected to.

pub mod settings;

use axum::Router;
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

use crate::settings::Settings;

static MIGRATIONS: Migrator = sqlx::migrate!();

/// Serves until told to stop.
pub async fn serve(
    settings: Settings,
    listeners: Listeners,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let pool = kit_store::pool(&settings.common);
    let redis = Redis::new(settings.redis.redis_url.0)?;
    let needed = vec![Dependency::Redis(redis)];
    let identity = ("chat", env!("CARGO_PKG_VERSION"));
    let service = Service::new(identity, &settings.common, &pool, needed, &shutdown);
    let prepare = async move {
        kit_store::migrate(&pool, &MIGRATIONS).await;
        Ok(())
    };
    service.run(listeners, Parts { http: Router::new(), grpc: Routes::default(), prepare }).await
}
