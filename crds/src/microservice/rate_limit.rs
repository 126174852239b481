//! How many requests a service takes, and whose are counted together.
//!
//! A limit is a token bucket (`requests` tokens come back evenly over `per`, and `burst` of them fit in) or a sliding
//! window (`requests` in any `per`).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::authorization::RuleTo;
use crate::duration::Duration;
use crate::{defaults, rules};

/// A limit on requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::cel(rules::RATE_LIMIT)))]
pub struct RateLimit {
    /// Requests that one key may make in `per`. 1 to 10000000. Example: `100`.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub requests: u32,

    /// The period. More than `0s`. Default: `1m`. Example: `1s`.
    #[serde(default = "defaults::rate_limit_per")]
    #[schemars(extend("x-kubernetes-validations" = rules::cel(rules::POSITIVE)))]
    pub per: Duration,

    /// How requests are counted. `TokenBucket`: tokens come back evenly, and up to `burst` wait to be used.
    /// `SlidingWindow`: no more than `requests` in any span as long as `per`; `Local` that is kept as two counters, which
    /// take the span before as even, `Global` as one entry per request, so there are at most 10000 `requests` then.
    /// Default: `TokenBucket`. Example: `SlidingWindow`.
    #[serde(default)]
    pub algorithm: Algorithm,

    /// Requests that may come at once after a rest, for `TokenBucket` only. 1 to 10000000. Default: the same as
    /// `requests`. Example: `20`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub burst: Option<u32>,

    /// Whose requests count together: `client-ip`, `identity` (of the calling workload), `claim:<name>` of the token or
    /// `header:<name>`. Default: `client-ip`. Example: `claim:sub`.
    #[serde(default)]
    pub key: RateLimitKey,

    /// `Local` counts in each instance by itself, `Global` together in the mesh's Redis. Default: `Local`. Example: `Global`.
    #[serde(default)]
    pub scope: Scope,

    /// What becomes of requests while Redis does not answer: `Open` lets them through, `Closed` refuses them. For
    /// `Global` only. Default: `Open`. Example: `Closed`.
    #[serde(default)]
    pub failure: Failure,

    /// Which answers carry `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` (in seconds): those of this
    /// limit's refusals (`Refused`, which carry `Retry-After` in any case), those of the requests it lets through too
    /// (`All`), or none (`None`). Of several limits the one with the least remaining speaks. Default: `Refused`.
    /// Example: `All`.
    #[serde(default)]
    pub headers: LimitHeaders,

    /// Which requests count. Others are neither counted nor limited. Default: all.
    /// Example: `{methods: [POST], paths: ["/orders*"]}`.
    #[serde(default, skip_serializing_if = "RuleTo::is_empty")]
    pub to: RuleTo,
}

impl RateLimit {
    /// Requests that may come at once.
    pub fn burst(&self) -> u32 {
        self.burst.unwrap_or(self.requests)
    }
}

/// How requests are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// Tokens that come back evenly.
    #[default]
    TokenBucket,
    /// Requests in any span as long as the period.
    SlidingWindow,
}

/// What becomes of requests while Redis does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Failure {
    /// They pass.
    #[default]
    Open,
    /// They are refused.
    Closed,
}

/// Which answers say how much of a limit is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LimitHeaders {
    /// None.
    None,
    /// Refusals.
    #[default]
    Refused,
    /// All answers.
    All,
}

/// Where requests are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Scope {
    /// In each instance by itself.
    #[default]
    Local,
    /// For all instances together, in the mesh's Redis.
    Global,
}

/// Whose requests count together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum RateLimitKey {
    /// The client's address, behind a gateway the one that the gateway saw.
    #[default]
    ClientIp,
    /// The calling workload's identity.
    Identity,
    /// A claim of the token.
    Claim(String),
    /// A header, by its name in lower case.
    Header(String),
}

/// A text is no key of a rate limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no key; write client-ip, identity, claim:<name> or header:<name>")]
pub struct InvalidRateLimitKey(pub String);

const KEY_PATTERN: &str = "^(client-ip|identity|claim:[A-Za-z0-9_.:/-]+|header:[A-Za-z0-9_-]+)$";

impl FromStr for RateLimitKey {
    type Err = InvalidRateLimitKey;

    fn from_str(text: &str) -> Result<Self, InvalidRateLimitKey> {
        let allowed = |name: &str, marks: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || marks.contains(c))
        };
        let claim = text.strip_prefix("claim:").filter(|name| allowed(name, "_.:/-"));
        let header = text.strip_prefix("header:").filter(|name| allowed(name, "_-"));
        match (text, claim, header) {
            ("client-ip", ..) => Ok(Self::ClientIp),
            ("identity", ..) => Ok(Self::Identity),
            (_, Some(name), _) => Ok(Self::Claim(name.to_owned())),
            (_, _, Some(name)) => Ok(Self::Header(name.to_ascii_lowercase())),
            _ => Err(InvalidRateLimitKey(text.to_owned())),
        }
    }
}

impl fmt::Display for RateLimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientIp => f.write_str("client-ip"),
            Self::Identity => f.write_str("identity"),
            Self::Claim(name) => write!(f, "claim:{name}"),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}

impl Serialize for RateLimitKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RateLimitKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for RateLimitKey {
    fn schema_name() -> Cow<'static, str> {
        "RateLimitKey".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": KEY_PATTERN, "maxLength": 256})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::proptest;

    #[test]
    fn keys_read_and_write() {
        for text in ["client-ip", "identity", "claim:sub", "claim:realm_access.roles", "header:x-api-key"] {
            assert_eq!(text.parse::<RateLimitKey>().unwrap().to_string(), text);
        }
        assert_eq!("header:X-Key".parse(), Ok(RateLimitKey::Header("x-key".to_owned())));
        for text in ["", "ip", "claim:", "header:", "header:a b", "cookie:x"] {
            assert_eq!(text.parse::<RateLimitKey>(), Err(InvalidRateLimitKey(text.to_owned())));
        }
    }

    #[test]
    fn keys_agree_with_the_pattern_of_the_schema() {
        let pattern = regex::Regex::new(KEY_PATTERN).unwrap();
        proptest!(|(text in "(client-ip|identity|claim:|header:)?[a-zA-Z .:/_-]{0,3}")| {
            assert_eq!(text.parse::<RateLimitKey>().is_ok(), pattern.is_match(&text), "{text}");
        });
    }
}
