//! The user service: accounts, passwords, and the tokens that all other services' sidecars believe.
//!
//! `api` speaks HTTP and gRPC, `domain` decides, `store` remembers. The mesh verifies the tokens; this service only
//! issues them and serves the keys to verify them with.

pub mod api;
pub mod domain;
pub mod settings;
pub mod store;

use std::sync::Arc;

use shop_kit::{
    clock,
    server::Listeners,
    service::{Parts, Service},
    store as kit_store,
};
use sqlx::migrate::Migrator;
use tokio_util::sync::CancellationToken;

use crate::{
    domain::{Users, keys::Keys, password::Passwords, token::Tokens},
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
    let identity = ("user", env!("CARGO_PKG_VERSION"));
    let service = Service::new(identity, &settings.common, &pool, Vec::new(), &shutdown);
    service.describe(include_str!("../openapi.yaml"))?;
    let store = Store::new(pool.clone());
    let keys = Arc::new(Keys::new(store.clone(), settings.key_policy()));
    let users = Arc::new(Users {
        store,
        passwords: Passwords::new(settings.hashers())?,
        tokens: Tokens::new(keys.clone(), &settings.issuer, &settings.audience, settings.token_lifetime),
    });
    let prepare = {
        let (users, service, keys) = (users.clone(), service.clone(), keys.clone());
        async move {
            kit_store::migrate(&pool, &MIGRATIONS).await;
            keys.refresh(clock::now()).await?;
            users.ensure_admin(settings.admin(), clock::now()).await?;
            service.background("keys", async move { keys.keep_fresh().await });
            Ok(())
        }
    };
    let parts = Parts { http: api::http::router(users.clone()), grpc: api::grpc::routes(users), prepare };
    service.run(listeners, parts).await
}
