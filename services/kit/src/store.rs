//! PostgreSQL: the pool, the migrations at start, and how full the pool is.
//! Each service has a database of its own and brings its own migrations; what is in it is the service's business.

use std::time::Duration;

use serde::Serialize;
use sqlx::{PgPool, migrate::Migrator, postgres::PgPoolOptions};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::{metrics::Metrics, settings::Common};

const ACQUIRE: Duration = Duration::from_secs(2);
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LAST_RETRY: Duration = Duration::from_secs(5);
const SAMPLE_EVERY: Duration = Duration::from_secs(10);

/// A pool; nothing is connected yet.
pub fn pool(settings: &Common) -> PgPool {
    let options = settings.database_url.0.clone().application_name(&settings.instance());
    PgPoolOptions::new()
        .max_connections(settings.database_connections)
        .acquire_timeout(ACQUIRE)
        .max_lifetime(Duration::from_mins(30))
        .connect_lazy_with(options)
}

/// Connects and brings the schema up to date; tries again until it works.
pub async fn migrate(pool: &PgPool, migrations: &Migrator) {
    let mut wait = FIRST_RETRY;
    loop {
        match migrations.run(pool).await {
            Ok(()) => break,
            Err(error) => {
                let error = crate::errors::chain(&error);
                warn!(%error, retry_in = ?wait, "the database is not ready");
            }
        }
        sleep(wait).await;
        wait = (wait * 2).min(LAST_RETRY);
    }
    info!("connected to the database, schema up to date");
}

/// How full a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Connections that are open.
    pub open: u32,
    /// Those of them that somebody holds.
    pub in_use: u32,
    /// As many as there may be.
    pub max: u32,
}

impl Usage {
    /// How full a pool is now.
    pub fn of(pool: &PgPool) -> Self {
        let open = pool.size();
        let in_use = open.saturating_sub(u32::try_from(pool.num_idle()).unwrap_or(open));
        Self { open, in_use, max: pool.options().get_max_connections() }
    }

    /// Whether it is time to do something: at 80 % requests are about to wait for each other.
    pub fn is_nearly_full(self) -> bool {
        u64::from(self.in_use) * 100 >= u64::from(self.max) * 80
    }
}

/// Measures the pool every 10 s; says once that it is nearly used up, and once that it is not any more.
pub async fn watch(pool: PgPool, metrics: Metrics) {
    let mut alarm = false;
    let mut tick = tokio::time::interval(SAMPLE_EVERY);
    loop {
        tick.tick().await;
        let usage = Usage::of(&pool);
        metrics.pool(usage);
        let Usage { in_use, max, .. } = usage;
        match (alarm, usage.is_nearly_full()) {
            (false, true) => warn!(in_use, max, "the database pool is nearly used up"),
            (true, false) => info!(in_use, max, "the database pool has room again"),
            (true, true) | (false, false) => {}
        }
        alarm = usage.is_nearly_full();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_nearly_full_from_eighty_per_cent() {
        for (in_use, expect) in [(0, false), (7, false), (8, true), (10, true)] {
            let usage = Usage { open: 10, in_use, max: 10 };
            assert_eq!(usage.is_nearly_full(), expect, "{in_use} of 10");
        }
    }
}
