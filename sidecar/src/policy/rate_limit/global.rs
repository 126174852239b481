//! Global rate limits: what to ask Redis and what its answer means. The same token bucket as locally, kept by a script
//! that Redis runs as one step and on its own clock, so all proxies count together; one small key per bucket that
//! vanishes when it is full. (A sorted set per window would keep one entry per request for the same answer.)

use std::sync::Arc;

use super::{Rule, refuse};
use crate::reject::Reject;

/// The script: `KEYS[1]` the bucket, `ARGV[1]` microseconds per token, `ARGV[2]` capacity. Answers 0 if a token was
/// taken, else the milliseconds until there is one.
pub const SCRIPT: &str = r"
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local step = tonumber(ARGV[1])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now) + step
local wait = full - now - step * tonumber(ARGV[2])
if wait > 0 then
  return math.ceil(wait / 1000)
end
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
return 0
";

/// Longest part of a value that stands in a key as it is.
const MAX_VALUE: usize = 128;

/// One question to Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GlobalCheck {
    /// Name of the limit.
    pub rule: Arc<str>,
    /// `KEYS[1]`.
    pub key: Vec<u8>,
    /// `ARGV`.
    pub args: [u64; 2],
    /// Whether the request passes when Redis cannot be reached.
    pub fail_open: bool,
}

impl GlobalCheck {
    pub(super) fn new(rule: &Rule, fail_open: bool, value: Option<&[u8]>) -> Self {
        let mut key = format!("weft:limit:{}", rule.name).into_bytes();
        if let Some(value) = value {
            key.push(b':');
            key.extend_from_slice(value.get(..MAX_VALUE).unwrap_or(value));
            if value.len() > MAX_VALUE {
                let rest = crate::upstream::balance::hash_key(value);
                key.extend_from_slice(format!(":{}:{rest:016x}", value.len()).as_bytes());
            }
        }
        let args = [(rule.rate.step / 1000).max(1), u64::from(rule.rate.capacity)];
        Self { rule: Arc::clone(&rule.name), key, args, fail_open }
    }

    /// What the script's answer means.
    pub fn verdict(&self, wait_millis: i64) -> Result<(), Reject> {
        match u64::try_from(wait_millis) {
            Ok(0) | Err(_) => Ok(()),
            Ok(wait) => Err(refuse(&self.rule, wait.saturating_mul(1_000_000))),
        }
    }

    /// What it means that Redis gave none.
    pub fn without_answer(&self) -> Result<(), Reject> {
        if self.fail_open {
            return Ok(());
        }
        Err(refuse(&self.rule, 1).because("the counter cannot be reached"))
    }
}
