//! Global rate limits: what to ask Redis and what its answer means. A token bucket is one small key that vanishes when
//! the bucket is full, a sliding window a sorted set with an entry per request. One script, which Redis runs as one step
//! and on its own clock, decides about all limits of a request: all proxies count together, and what one limit refuses
//! is counted by none.

use std::sync::Arc;

use super::{Count, Limit, Rate, Standing};
use crate::reject::{Reason, Reject};

/// The script: `KEYS` one per limit, `ARGV` three per limit: `bucket` or `window`, microseconds per token or of the
/// window, and how many fit in. Answers three numbers per limit: milliseconds until there is room (0: there is), how
/// many are left, and milliseconds until all are.
pub const SCRIPT: &str = r"
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local stamp = string.format('%.0f', now)
local answer, found, pass = {}, {}, true
for i, key in ipairs(KEYS) do
  local span, most = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local wait, left, reset
  if ARGV[3 * i - 2] == 'window' then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%.0f', now - span))
    local used = redis.call('ZCARD', key)
    found[i] = used
    wait, left, reset = 0, most - used - 1, span
    if used >= most then
      local oldest = redis.call('ZRANGE', key, used - most, used - most, 'WITHSCORES')
      wait = math.max(tonumber(oldest[2]) + span - now, 1)
    end
  else
    local full = math.max(tonumber(redis.call('GET', key) or now), now) + span
    found[i] = full
    wait, reset = full - now - span * most, full - now
    left = math.floor(-wait / span)
    if wait > 0 then reset = reset - span end
  end
  if wait > 0 then pass, left = false, 0 end
  answer[3 * i - 2] = math.ceil(math.max(wait, 0) / 1000)
  answer[3 * i - 1] = left
  answer[3 * i] = math.ceil(reset / 1000)
end
if not pass then return answer end
for i, key in ipairs(KEYS) do
  if ARGV[3 * i - 2] == 'window' then
    redis.call('ZADD', key, stamp, stamp .. '-' .. found[i])
    redis.call('PEXPIRE', key, math.ceil(tonumber(ARGV[3 * i - 1]) / 1000))
  else
    redis.call('SET', key, string.format('%.0f', found[i]), 'PX', math.ceil((found[i] - now) / 1000))
  end
end
return answer
";

/// Numbers in the answer for each limit.
pub const ANSWERS: usize = 3;
/// Longest part of a value that stands in a key as it is.
const MAX_VALUE: usize = 128;

/// One question to Redis.
#[derive(Clone, Debug)]
pub struct GlobalCheck {
    limit: Arc<Limit>,
    key: Vec<u8>,
}

impl GlobalCheck {
    /// Asks about the requests of this value of the limit's key; none where all count together.
    pub fn new(limit: &Arc<Limit>, value: Option<&[u8]>) -> Self {
        let mut key = format!("weft:{}:{}", kind(limit.rate), limit.name).into_bytes();
        if let Some(value) = value {
            key.push(b':');
            key.extend_from_slice(value.get(..MAX_VALUE).unwrap_or(value));
            if value.len() > MAX_VALUE {
                let rest = crate::upstream::balance::hash_key(value);
                key.extend_from_slice(format!(":{}:{rest:016x}", value.len()).as_bytes());
            }
        }
        Self { limit: Arc::clone(limit), key }
    }

    /// Its `KEYS`.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Its `ARGV`.
    pub fn args(&self) -> (&'static str, u64, u32) {
        let (span, most) = match self.limit.rate {
            Rate::Bucket { step, capacity } => (step, capacity),
            Rate::Window { span, most } => (span, most),
        };
        (kind(self.limit.rate), (span / 1000).max(1), most)
    }

    /// What its part of the script's answer means.
    pub fn verdict(&self, answer: [i64; ANSWERS]) -> Result<Option<Standing>, Reject> {
        let [wait, left, reset] = answer.map(|number| u64::try_from(number).unwrap_or_default());
        let nanos = |millis: u64| millis.saturating_mul(1_000_000);
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        self.limit.verdict(Count { wait: nanos(wait), left, reset: nanos(reset) })
    }

    /// What it means that Redis gave none.
    pub fn without_answer(&self) -> Result<(), Reject> {
        if self.limit.fail_open {
            return Ok(());
        }
        let reject = Reject::new(Reason::RateLimited).by(&*self.limit.name).retry_after(1);
        Err(reject.because("the counter cannot be reached"))
    }
}

const fn kind(rate: Rate) -> &'static str {
    match rate {
        Rate::Bucket { .. } => "bucket",
        Rate::Window { .. } => "window",
    }
}
