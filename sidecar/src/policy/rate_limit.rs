//! Rate limits: token buckets or sliding windows, one per rule or one per client, identity, claim or header value.
//! Stands last on the inbound path before the application. Local limits are decided here; of global ones this says what
//! to ask Redis (`global.rs`), asking is the path's work.
//!
//! A bucket is one number, the time at which it will be full again (GCRA), so taking a token is one comparison. A window
//! is two counts (`window.rs`).

mod counts;
pub mod global;
mod window;

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use serde_json::Value;
use tokio::time::Instant;
use weft_api::v1;

use self::counts::{Count, Counts, Rate};
use self::global::GlobalCheck;
use super::ConfigError;
use super::pattern::header_name;
use super::request_match::{RequestMatch, any_or_all};
use crate::cx::RequestCx;
use crate::reject::{Reason, Reject};

/// The limits of one workload.
#[derive(Debug, Default)]
pub struct RateLimits {
    rules: Box<[Rule]>,
    /// Whether any of them is global.
    has_global: bool,
}

#[derive(Debug)]
struct Rule {
    limit: Arc<Limit>,
    to: Box<[RequestMatch]>,
    key: Key,
    /// None: counted in Redis.
    local: Option<Arc<Counts>>,
}

/// One limit: its name, how many, and what answers say of it.
#[derive(Debug)]
pub struct Limit {
    name: Arc<str>,
    rate: Rate,
    tell: Tell,
    /// Whether requests pass while Redis does not answer.
    fail_open: bool,
}

/// What has a count of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    Rule,
    ClientIp,
    Identity,
    Claim(Box<str>),
    Header(HeaderName),
}

/// Which answers tell how the limit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tell {
    Nobody,
    Refused,
    All,
}

/// How a limit stands after a request: told in `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Requests that fit in.
    pub limit: u32,
    /// How many more fit in now.
    pub remaining: u32,
    /// Whole seconds until nothing of it is used any more.
    pub reset_secs: u32,
}

impl RateLimits {
    /// Compiles the wire form. Local limits that `previous` has with the same name, rate and key keep their counts.
    pub fn new(config: &[v1::RateLimit], previous: Option<&Self>, now: Instant) -> Result<Self, ConfigError> {
        let rules: Box<[_]> =
            config.iter().map(|limit| Rule::new(limit, previous, now)).collect::<Result<_, _>>()?;
        let has_global = rules.iter().any(|rule| rule.local.is_none());
        Ok(Self { rules, has_global })
    }

    /// Counts the request at every local limit that it falls under. Says how the tightest of them stands that wants to
    /// be told of.
    pub fn check(
        &self,
        cx: &RequestCx,
        headers: &HeaderMap,
        now: Instant,
    ) -> Result<Option<Standing>, Reject> {
        let mut tightest = None;
        for rule in &self.rules {
            if let Some(counts) = &rule.local
                && any_or_all(&rule.to, cx)
            {
                let count = rule.key.with_value(cx, headers, |value| counts.take(value, now));
                tightest = tighter(tightest, rule.limit.verdict(count)?);
            }
        }
        Ok(tightest)
    }

    /// Whether Redis must be asked for some requests.
    pub fn has_global(&self) -> bool {
        self.has_global
    }

    /// What to ask Redis about this request.
    pub fn global_checks(&self, cx: &RequestCx, headers: &HeaderMap) -> Vec<GlobalCheck> {
        let global = self.rules.iter().filter(|rule| rule.local.is_none() && any_or_all(&rule.to, cx));
        global
            .map(|rule| rule.key.with_value(cx, headers, |value| GlobalCheck::new(&rule.limit, value)))
            .collect()
    }
}

/// Of two limits the one that has less left.
pub fn tighter(one: Option<Standing>, other: Option<Standing>) -> Option<Standing> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.remaining < one.remaining { other } else { one }),
        (one, other) => one.or(other),
    }
}

impl Rule {
    fn new(config: &v1::RateLimit, previous: Option<&RateLimits>, now: Instant) -> Result<Self, ConfigError> {
        let limit = Arc::new(Limit::new(config)?);
        let key = Key::new(config.key.as_ref())?;
        let same =
            |rule: &&Rule| rule.limit.name == limit.name && rule.limit.rate == limit.rate && rule.key == key;
        let kept = previous.and_then(|p| p.rules.iter().find(same)).and_then(|rule| rule.local.clone());
        let local = (!config.global).then(|| kept.unwrap_or_else(|| Arc::new(Counts::new(limit.rate, now))));
        Ok(Self { limit, to: RequestMatch::all(&config.to)?, key, local })
    }
}

impl Limit {
    /// Compiles the wire form.
    pub fn new(config: &v1::RateLimit) -> Result<Self, ConfigError> {
        let tell = match config.headers() {
            v1::LimitHeaders::None => Tell::Nobody,
            v1::LimitHeaders::Unspecified | v1::LimitHeaders::Refused => Tell::Refused,
            v1::LimitHeaders::All => Tell::All,
        };
        let name = config.name.as_str().into();
        Ok(Self { name, rate: Rate::new(config)?, tell, fail_open: config.fail_open })
    }

    fn verdict(&self, count: Count) -> Result<Option<Standing>, Reject> {
        let (Rate::Bucket { capacity: limit, .. } | Rate::Window { most: limit, .. }) = self.rate;
        let standing = Standing { limit, remaining: count.left, reset_secs: seconds(count.reset) };
        match count.wait {
            0 => Ok((self.tell == Tell::All).then_some(standing)),
            wait => {
                let reject =
                    Reject::new(Reason::RateLimited).by(&*self.name).retry_after(seconds(wait).max(1));
                Err(Reject { standing: (self.tell != Tell::Nobody).then_some(standing), ..reject })
            }
        }
    }
}

impl Rate {
    fn new(config: &v1::RateLimit) -> Result<Self, ConfigError> {
        let (requests, span) = (config.requests, config.per_ms.saturating_mul(1_000_000));
        let step = span.checked_div(requests.into()).unwrap_or_default();
        if step == 0 {
            let value = format!("{requests} per {} ms", config.per_ms);
            return Err(ConfigError::invalid(
                "rateLimits[]",
                value,
                "write at least 1 request, in at least 1 ms",
            ));
        }
        Ok(match config.algorithm() {
            v1::RateLimitAlgorithm::SlidingWindow => Self::Window { span, most: requests },
            v1::RateLimitAlgorithm::Unspecified | v1::RateLimitAlgorithm::TokenBucket => {
                Self::Bucket { step, capacity: if config.burst > 0 { config.burst } else { requests } }
            }
        })
    }
}

impl Key {
    fn new(config: Option<&v1::RateLimitKey>) -> Result<Self, ConfigError> {
        use v1::rate_limit_key::Key as Wire;
        Ok(match config.and_then(|config| config.key.as_ref()) {
            Some(Wire::ClientIp(true)) => Self::ClientIp,
            Some(Wire::Identity(true)) => Self::Identity,
            Some(Wire::Claim(claim)) => Self::Claim(claim.as_str().into()),
            Some(Wire::Header(name)) => Self::Header(header_name("rateLimits[].key.header", name)?),
            Some(Wire::ClientIp(false) | Wire::Identity(false)) | None => Self::Rule,
        })
    }

    /// Calls `then` with the value that is counted by itself; none where all requests share one. A request without the claim,
    /// header or identity is counted by its address, so that leaving it out is no way around the limit.
    fn with_value<T>(&self, cx: &RequestCx, headers: &HeaderMap, then: impl FnOnce(Option<&[u8]>) -> T) -> T {
        let number;
        let value = match self {
            Self::Rule => return then(None),
            Self::ClientIp => None,
            Self::Identity => cx.conn.identity.as_ref().map(|id| id.as_str().as_bytes()),
            Self::Header(name) => headers.get(name).map(http::HeaderValue::as_bytes),
            Self::Claim(claim) => match cx.claims.as_ref().and_then(|claims| claims.get(claim)) {
                Some(Value::String(text)) => Some(text.as_bytes()),
                Some(Value::Number(value)) => {
                    number = value.to_string();
                    Some(number.as_bytes())
                }
                _ => None,
            },
        };
        match (value, cx.client_ip.to_canonical()) {
            (Some(value), _) => then(Some(value)),
            (None, std::net::IpAddr::V4(ip)) => then(Some(&ip.octets())),
            // One subscriber has a whole /64.
            (None, std::net::IpAddr::V6(ip)) => then(ip.octets().get(..8)),
        }
    }
}

/// Whole seconds that are no shorter.
fn seconds(nanos: u64) -> u32 {
    u32::try_from(nanos.div_ceil(1_000_000_000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
