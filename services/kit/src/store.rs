//! PostgreSQL: the pool, the migrations at start, and how full the pool is.
//! Each service has a database of its own and brings its own migrations; what is in it is the service's business.

use std::time::Duration;

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

/// Measures the pool every 10 s and warns when 80 % of it is in use.
pub async fn watch(pool: PgPool, metrics: Metrics) {
    let most = pool.options().get_max_connections();
    let mut tick = tokio::time::interval(SAMPLE_EVERY);
    loop {
        tick.tick().await;
        let open = pool.size();
        let in_use = open.saturating_sub(u32::try_from(pool.num_idle()).unwrap_or(open));
        metrics.pool(open, in_use, most);
        if nearly_full(in_use, most) {
            warn!(in_use, most, "the database pool is nearly used up");
        }
    }
}

fn nearly_full(in_use: u32, most: u32) -> bool {
    u64::from(in_use) * 100 >= u64::from(most) * 80
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_nearly_full_from_eighty_per_cent() {
        for (in_use, expect) in [(0, false), (7, false), (8, true), (10, true)] {
            assert_eq!(nearly_full(in_use, 10), expect, "{in_use} of 10");
        }
    }
}
