//! How fast a user may write, whichever instances they are connected to: one pace for each, in Redis, in one round trip.
//!
//! It is kept when a user's next message would be due if they wrote evenly (GCRA), and they may be ahead of that by a
//! burst. The time is Redis', so that all instances mean the same by it. Without Redis an instance holds its users to the
//! same pace by itself: who is on two of them is twice as fast then, and nobody is kept from writing.

use std::time::Duration;

use redis::{RedisResult, Script};
use shop_kit::redis::Redis;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{domain::pace::Pace, metrics::Counters, people::Connected};

/// KEYS: the user's. ARGV: microseconds between two messages, microseconds to be ahead at most.
/// Answers after how many microseconds the user may write; 0 when they may, which then counts.
/// What is due later than any pace makes it is of a clock that was set back, or of a slower pace than ours.
const TAKE: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local due = tonumber(redis.call('GET', KEYS[1])) or 0
due = math.min(math.max(due, now), now + ARGV[1] + ARGV[2])
local wait = due - now - ARGV[2]
if wait > 0 then return wait end
due = due + ARGV[1]
redis.call('SET', KEYS[1], string.format('%.0f', due), 'PX', math.ceil((due - now) / 1000))
return 0";

/// The pace of all users.
pub struct Quota {
    redis: Redis,
    pace: Pace,
    counters: Counters,
    take: Script,
}

impl Quota {
    /// That pace for everybody.
    pub fn new(redis: Redis, pace: Pace, counters: Counters) -> Self {
        Self { redis, pace, counters, take: Script::new(TAKE) }
    }

    /// Lets a user write a message, or says after what time they may.
    pub async fn take(&self, connected: &Connected) -> Result<(), Duration> {
        match self.ask(connected.user()).await {
            Ok(Duration::ZERO) => {
                // Counted here too, so that nobody has a burst left over when Redis goes.
                connected.write(Instant::now()).ok();
                Ok(())
            }
            Ok(wait) => Err(wait),
            // The kit logs it.
            Err(_) => {
                self.counters.paced_alone();
                connected.write(Instant::now())
            }
        }
    }

    async fn ask(&self, user: Uuid) -> RedisResult<Duration> {
        let interval = self.pace.interval();
        let ahead = interval * (self.pace.burst - 1);
        let mut call = self.take.key(key(user));
        call.arg(interval.as_micros().to_string()).arg(ahead.as_micros().to_string());
        self.redis.script(&call).await.map(Duration::from_micros)
    }
}

fn key(user: Uuid) -> String {
    format!("chat:pace:{user}")
}

#[cfg(test)]
mod tests {
    use redis::cmd;
    use shop_kit::{metrics::Metrics, testing::redis};

    use super::*;

    #[tokio::test]
    async fn a_burst_passes_and_then_one_message_at_a_time() {
        let redis = Redis::new(redis().await.parse().unwrap()).unwrap();
        let pace = Pace { rate: 1, burst: 3 };
        let quota = Quota::new(redis.clone(), pace, Counters::new(&Metrics::new()));
        let (ann, bob) = (Uuid::new_v4(), Uuid::new_v4());
        let second = Duration::from_secs(1);
        let before = Instant::now();
        for _ in 0..3 {
            assert_eq!(quota.ask(ann).await.unwrap(), Duration::ZERO);
        }
        let wait = quota.ask(ann).await.unwrap();
        let least = second.saturating_sub(before.elapsed());
        assert!(wait >= least && wait <= second, "{wait:?}");
        assert_eq!(quota.ask(bob).await.unwrap(), Duration::ZERO, "another user has a pace of their own");
        let lives: u64 = redis.run(cmd("PTTL").arg(key(ann))).await.unwrap();
        assert!((1..=3000).contains(&lives), "{lives}");
    }

    #[tokio::test]
    async fn what_cannot_be_is_no_longer_than_a_full_wait() {
        let redis = Redis::new(redis().await.parse().unwrap()).unwrap();
        let quota = Quota::new(redis.clone(), Pace { rate: 1, burst: 3 }, Counters::new(&Metrics::new()));
        for (stored, most) in [("99999999999999999", 1000), ("-1", 0), ("nonsense", 0), ("", 0)] {
            let user = Uuid::new_v4();
            redis.run::<()>(cmd("SET").arg(key(user)).arg(stored)).await.unwrap();
            assert!(quota.ask(user).await.unwrap() <= Duration::from_millis(most), "{stored}");
        }
    }
}
