//! One change of a product's stock at a time, over all instances: `lock:product:<id>` in Redis.
//!
//! The lock is a queue, not the guarantee: the row in PostgreSQL keeps the stock right. So when Redis is gone, or the
//! lock cannot be had in time (a holder died), the change goes on without it and waits at the row.
//!
//! Each acquisition has a token that is larger than those before, and the row refuses a change with an older token than
//! the last: a holder that was paused until its lock ran out comes too late. Tokens go on from Redis' clock, so that
//! they increase also when Redis has lost them.

use std::time::Duration;

use redis::Script;
use shop_kit::redis::Redis;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};
use uuid::Uuid;

const LIFETIME: Duration = Duration::from_secs(30);
/// Longer than clocks are set back.
const TOKEN_KEPT: Duration = Duration::from_hours(24);
const PATIENCE: Duration = Duration::from_secs(2);
const SHORTEST_WAIT: Duration = Duration::from_millis(2);
const LONGEST_WAIT: Duration = Duration::from_millis(40);
/// KEYS: lock, last token; ARGV: lifetime and how long the last token is remembered, in ms. Returns the token, or
/// nothing when the lock is held. Tokens are microseconds, which a number of Lua holds exactly for 200 years.
const ACQUIRE: &str = r"
local now = redis.call('TIME')
local token = math.max(now[1] * 1000000 + now[2], (tonumber(redis.call('GET', KEYS[2])) or 0) + 1)
token = string.format('%.0f', token)
if not redis.call('SET', KEYS[1], token, 'NX', 'PX', ARGV[1]) then return false end
redis.call('SET', KEYS[2], token, 'PX', ARGV[2])
return token
";
/// Deletes the lock only if it is still ours: it may have ended and been taken by somebody else.
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) else return 0 end";

/// Gives out locks.
pub struct Lock {
    redis: Redis,
    acquire: Script,
    release: Script,
}

/// A lock that is held, or that one does without.
#[derive(Debug)]
pub struct Held(Option<(String, i64)>);

impl Held {
    /// Whether the lock is held.
    pub fn is_held(&self) -> bool {
        self.0.is_some()
    }

    /// The fencing token, to be given along with what is done under the lock.
    pub fn token(&self) -> Option<i64> {
        self.0.as_ref().map(|(_, token)| *token)
    }
}

impl Lock {
    /// Locks on that server.
    pub fn new(redis: Redis) -> Self {
        Self { redis, acquire: Script::new(ACQUIRE), release: Script::new(RELEASE) }
    }

    /// Waits for the lock of a product, for at most 2 s and half of the time that is left.
    pub async fn acquire(&self, product: Uuid, deadline: Instant) -> Held {
        let key = format!("lock:product:{product}");
        let now = Instant::now();
        let until = now + PATIENCE.min(deadline.saturating_duration_since(now) / 2);
        let mut acquire = self.acquire.prepare_invoke();
        acquire.key(&key).key(format!("fence:product:{product}"));
        acquire.arg(millis(LIFETIME)).arg(millis(TOKEN_KEPT));
        let mut wait = SHORTEST_WAIT;
        loop {
            match self.redis.script::<Option<i64>>(&acquire).await {
                Ok(Some(token)) => return Held(Some((key, token))),
                Ok(None) if Instant::now() + wait < until => sleep(jitter(wait)).await,
                Ok(None) => {
                    warn!(%product, "the stock lock was not free in time; going on without");
                    return Held(None);
                }
                Err(error) => {
                    debug!(%product, %error, "no stock lock without redis");
                    return Held(None);
                }
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Gives the lock back, if it is still ours.
    pub async fn release(&self, held: Held) {
        let Held(Some((key, token))) = held else { return };
        let mut release = self.release.prepare_invoke();
        release.key(&key).arg(token);
        if let Err(error) = self.redis.script::<i64>(&release).await {
            warn!(%error, key, "a stock lock ends by itself in 30 s");
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Between half of the time and all of it, so that those who wait do not come back together.
fn jitter(wait: Duration) -> Duration {
    let random = u32::from(Uuid::new_v4().as_bytes()[0]);
    wait / 2 + wait / 2 * random / 255
}
