//! Products kept in Redis under `product:<id>` for about 10 minutes, dropped when they change. Not exactly: entries that
//! were made together must not end together.
//!
//! Who misses leaves a lease in the entry's place and may fill it only while the lease is still there. A change
//! drops entry and lease alike, so a reader that was slow cannot put back what it read before the change.

use std::time::Duration;

use redis::{Script, cmd, pipe};
use shop_kit::{
    metrics::{CacheOutcome, Metrics},
    redis::Redis,
};
use tracing::warn;
use uuid::Uuid;

use crate::{domain::product::Product, store::near};

const LIFETIME: Duration = Duration::from_mins(10);
const LEASE: Duration = Duration::from_secs(5);
const LEASE_MARK: &str = "lease:";
/// KEYS[1] entry; ARGV: lease, value, lifetime in ms.
const FILL: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then \
                    return redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) else return false end";

/// The cache.
pub struct Cache {
    redis: Redis,
    metrics: Metrics,
    fill: Script,
}

/// A look into the cache that found nothing.
pub struct Miss {
    lease: Option<String>,
}

impl Cache {
    /// The cache on that server.
    pub fn new(redis: Redis, metrics: Metrics) -> Self {
        Self { redis, metrics, fill: Script::new(FILL) }
    }

    /// The product of that id, or the right to put it there.
    pub async fn get(&self, id: Uuid) -> Result<Product, Miss> {
        let (outcome, found) = match self.redis.run::<Option<String>>(cmd("GET").arg(key(id))).await {
            Err(_) => (CacheOutcome::Skipped, Err(Miss { lease: None })),
            Ok(None) => (CacheOutcome::Miss, Err(Miss { lease: self.lease(id).await })),
            // Somebody else is about to fill it, or it was written by another version.
            Ok(Some(text)) => match serde_json::from_str(&text) {
                Ok(product) => (CacheOutcome::Hit, Ok(product)),
                Err(_) => (CacheOutcome::Miss, Err(Miss { lease: None })),
            },
        };
        self.metrics.cache(outcome);
        found
    }

    async fn lease(&self, id: Uuid) -> Option<String> {
        let lease = format!("{LEASE_MARK}{}", Uuid::new_v4());
        let mut set = cmd("SET");
        set.arg(key(id)).arg(&lease).arg("NX").arg("PX").arg(millis(LEASE));
        let taken: Option<String> = self.redis.run(&set).await.ok()?;
        taken.map(|_| lease)
    }

    /// Puts a product there, if the miss gave the right to and nothing has changed since.
    pub async fn fill(&self, miss: Miss, product: &Product) {
        let Some(lease) = miss.lease else { return };
        let Ok(text) = serde_json::to_string(product) else { return };
        let mut fill = self.fill.prepare_invoke();
        fill.key(key(product.id)).arg(lease).arg(text).arg(millis(lifetime()));
        // Redis says itself when it is gone, and a cache that is not filled is only slower.
        self.redis.script::<Option<String>>(&fill).await.ok();
    }

    /// Drops a product that changed, and tells the other instances.
    pub async fn drop(&self, id: Uuid) {
        let mut commands = pipe();
        commands.cmd("DEL").arg(key(id)).ignore();
        commands.cmd("PUBLISH").arg(near::CHANNEL).arg(id.to_string()).ignore();
        if let Err(error) = self.redis.run_all::<()>(&commands).await {
            warn!(%error, %id, "a changed product may be seen as it was for 11 minutes");
        }
    }
}

fn key(id: Uuid) -> String {
    format!("product:{id}")
}

/// 10 minutes, up to a tenth more or less.
fn lifetime() -> Duration {
    let random = u32::from(Uuid::new_v4().as_bytes()[0]);
    LIFETIME * 9 / 10 + LIFETIME / 5 * random / 255
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_spread_over_two_minutes() {
        let all: Vec<_> = (0..200).map(|_| lifetime().as_secs()).collect();
        assert!(all.iter().all(|seconds| (540..=660).contains(seconds)), "{all:?}");
        let (first, last) = (all.iter().min().unwrap(), all.iter().max().unwrap());
        assert!(last - first > 60, "{first} to {last}");
    }
}
