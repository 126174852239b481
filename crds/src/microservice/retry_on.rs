//! What a caller tries again: an event of the connection by name, or a status code.
//!
//! In YAML the list mixes words and numbers (`[connect, 503]`), so the type reads and writes both.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::rules;

/// Lowest status that may be tried again.
pub const MIN_STATUS: u16 = 400;
/// Highest status that may be tried again.
pub const MAX_STATUS: u16 = 599;

/// What is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryOn {
    /// The connection failed before the request left. Always tried on another endpoint, said or not.
    Connect,
    /// The connection broke, or the stream was reset, before an answer.
    Reset,
    /// One attempt took longer than its share of the timeout.
    Timeout,
    /// The answer has this status. For gRPC, 503 stands for UNAVAILABLE, 504 for `DEADLINE_EXCEEDED`, 429 for
    /// `RESOURCE_EXHAUSTED`.
    Status(u16),
}

impl fmt::Display for RetryOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("connect"),
            Self::Reset => f.write_str("reset"),
            Self::Timeout => f.write_str("timeout"),
            Self::Status(status) => write!(f, "{status}"),
        }
    }
}

impl Serialize for RetryOn {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Status(status) => serializer.serialize_u16(*status),
            word => serializer.collect_str(word),
        }
    }
}

impl<'de> Deserialize<'de> for RetryOn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RetryOnVisitor)
    }
}

struct RetryOnVisitor;

impl de::Visitor<'_> for RetryOnVisitor {
    type Value = RetryOn;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("connect, reset, timeout or a status from 400 to 599")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<RetryOn, E> {
        match text {
            "connect" => Ok(RetryOn::Connect),
            "reset" => Ok(RetryOn::Reset),
            "timeout" => Ok(RetryOn::Timeout),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<RetryOn, E> {
        let status = u16::try_from(number).ok().filter(|status| (MIN_STATUS..=MAX_STATUS).contains(status));
        status.map(RetryOn::Status).ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<RetryOn, E> {
        let unsigned =
            u64::try_from(number).map_err(|_| E::invalid_value(de::Unexpected::Signed(number), &self))?;
        self.visit_u64(unsigned)
    }
}

impl JsonSchema for RetryOn {
    fn schema_name() -> Cow<'static, str> {
        "RetryOn".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "x-kubernetes-validations": rules::cel(rules::RETRY_ON),
        })
    }
}
