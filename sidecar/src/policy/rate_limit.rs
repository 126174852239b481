//! Rate limits: token buckets, one per rule or one per client, identity, claim or header value. Stands last on the
//! inbound path before the application. Local limits are decided here; of global ones this says what to ask Redis
//! (`global.rs`), asking is the path's work.
//!
//! A bucket is one number, the time at which it will be full again (GCRA), so taking a token is one comparison.

mod buckets;
pub mod global;

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use serde_json::Value;
use tokio::time::Instant;
use weft_api::v1;

use self::buckets::Buckets;
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
    name: Arc<str>,
    to: Box<[RequestMatch]>,
    key: Key,
    rate: Rate,
    scope: Scope,
}

#[derive(Debug)]
enum Scope {
    Local(Arc<Buckets>),
    Global { fail_open: bool },
}

/// What has a bucket of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    Rule,
    ClientIp,
    Identity,
    Claim(Box<str>),
    Header(HeaderName),
}

/// How fast tokens come back and how many fit in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate {
    /// Nanoseconds per token.
    step: u64,
    capacity: u32,
}

impl RateLimits {
    /// Compiles the wire form. Local limits that `previous` has with the same name, rate and key keep their buckets.
    pub fn new(config: &[v1::RateLimit], previous: Option<&Self>, now: Instant) -> Result<Self, ConfigError> {
        let rules: Box<[_]> =
            config.iter().map(|limit| Rule::new(limit, previous, now)).collect::<Result<_, _>>()?;
        let has_global = rules.iter().any(|rule| matches!(rule.scope, Scope::Global { .. }));
        Ok(Self { rules, has_global })
    }

    /// Takes a token from every local limit that the request falls under.
    pub fn check(&self, cx: &RequestCx, headers: &HeaderMap, now: Instant) -> Result<(), Reject> {
        for rule in &self.rules {
            if let Scope::Local(buckets) = &rule.scope
                && any_or_all(&rule.to, cx)
            {
                rule.key
                    .with_value(cx, headers, |value| buckets.take(rule.rate, value, now))
                    .map_err(|nanos| refuse(&rule.name, nanos))?;
            }
        }
        Ok(())
    }

    /// Whether Redis must be asked for some requests.
    pub fn has_global(&self) -> bool {
        self.has_global
    }

    /// What to ask Redis about this request.
    pub fn global_checks(&self, cx: &RequestCx, headers: &HeaderMap) -> Vec<GlobalCheck> {
        let check = |rule: &Rule| match rule.scope {
            Scope::Global { fail_open } if any_or_all(&rule.to, cx) => {
                Some(rule.key.with_value(cx, headers, |value| GlobalCheck::new(rule, fail_open, value)))
            }
            _ => None,
        };
        self.rules.iter().filter_map(check).collect()
    }
}

impl Rule {
    fn new(config: &v1::RateLimit, previous: Option<&RateLimits>, now: Instant) -> Result<Self, ConfigError> {
        let rate = Rate::new(config)?;
        let key = Key::new(config.key.as_ref())?;
        let same = |rule: &&Rule| *rule.name == *config.name && rule.rate == rate && rule.key == key;
        let kept = previous.and_then(|p| p.rules.iter().find(same)).and_then(|rule| match &rule.scope {
            Scope::Local(buckets) => Some(Arc::clone(buckets)),
            Scope::Global { .. } => None,
        });
        let scope = if config.global {
            Scope::Global { fail_open: config.fail_open }
        } else {
            Scope::Local(kept.unwrap_or_else(|| Arc::new(Buckets::new(now))))
        };
        Ok(Self { name: config.name.as_str().into(), to: RequestMatch::all(&config.to)?, key, rate, scope })
    }
}

impl Rate {
    fn new(config: &v1::RateLimit) -> Result<Self, ConfigError> {
        let requests = u64::from(config.requests);
        let step = config.per_ms.saturating_mul(1_000_000).checked_div(requests).unwrap_or_default();
        if step == 0 {
            let value = format!("{} per {} ms", config.requests, config.per_ms);
            return Err(ConfigError::invalid(
                "rateLimits[]",
                value,
                "write at least 1 request, in at least 1 ms",
            ));
        }
        Ok(Self { step, capacity: if config.burst > 0 { config.burst } else { config.requests } })
    }

    /// Nanoseconds in which an empty bucket is full.
    fn room(self) -> u64 {
        self.step.saturating_mul(u64::from(self.capacity))
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

    /// Calls `then` with the value that has the bucket; none where all requests share one. A request without the claim,
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

fn refuse(rule: &str, nanos: u64) -> Reject {
    let seconds = u32::try_from(nanos.div_ceil(1_000_000_000)).unwrap_or(u32::MAX).max(1);
    Reject::new(Reason::RateLimited).by(rule).retry_after(seconds)
}

#[cfg(test)]
mod tests;
