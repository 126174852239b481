//! What a token says, and how it goes into headers.

use std::borrow::Cow;

use http::HeaderValue;
use serde_json::{Map, Value};

/// Longest header made from a claim.
const MAX_HEADER: usize = 4096;

/// Claims of a verified token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// As in the token.
    pub map: Map<String, Value>,
}

impl Claims {
    /// A claim by its name, or by a path of names joined by dots. A name that itself holds dots
    /// (`https://shop.example/role`) is found too; the longest name wins.
    pub fn get(&self, path: &str) -> Option<&Value> {
        find(&self.map, path)
    }

    /// `iss`; empty if there is none.
    pub(super) fn issuer(&self) -> &str {
        self.map.get("iss").and_then(Value::as_str).unwrap_or_default()
    }

    /// A time in seconds since the Unix epoch (RFC 7519, `NumericDate`: fractions are allowed).
    pub(super) fn time(&self, name: &str) -> Result<Option<i64>, &'static str> {
        match self.map.get(name) {
            None => Ok(None),
            Some(Value::Number(number)) => {
                let seconds = number.as_i64().or_else(|| number.as_f64().map(floor));
                seconds.map(Some).ok_or("a time is no number of seconds")
            }
            Some(_) => Err("a time is no number of seconds"),
        }
    }

    /// Whether `aud` names any of these.
    pub(super) fn has_audience(&self, audiences: &[Box<str>]) -> bool {
        let wanted =
            |value: &Value| value.as_str().is_some_and(|text| audiences.iter().any(|a| **a == *text));
        match self.map.get("aud") {
            Some(Value::Array(list)) => list.iter().any(wanted),
            Some(value) => wanted(value),
            None => false,
        }
    }

    /// A claim as a header's value: texts, numbers and truth values as they are, lists of these joined by commas. None
    /// if it cannot be carried without being read as something else: a control character, blanks at an end (which
    /// receivers drop), a comma in a list's item, nothing at all. The header then stays away, as if the claim did.
    pub(super) fn header_value(&self, path: &str) -> Option<HeaderValue> {
        let text = match self.get(path)? {
            Value::Array(items) => items.iter().map(list_item).collect::<Option<Vec<_>>>()?.join(","),
            value => scalar(value)?.into_owned(),
        };
        if text.is_empty()
            || text.len() > MAX_HEADER
            || text.trim() != text
            || text.chars().any(char::is_control)
        {
            return None;
        }
        HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).ok()
    }
}

fn find<'a>(map: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = map.get(path) {
        return Some(value);
    }
    path.rmatch_indices('.').find_map(|(dot, _)| {
        let inner = map.get(path.get(..dot)?)?.as_object()?;
        find(inner, path.get(dot + 1..)?)
    })
}

fn list_item(value: &Value) -> Option<Cow<'_, str>> {
    scalar(value).filter(|text| !text.is_empty() && text.trim() == *text && !text.contains(','))
}

fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(value) => Some(Cow::Borrowed(if *value { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "`as` keeps to the bounds of i64, which is what is meant"
)]
fn floor(seconds: f64) -> i64 {
    seconds.floor() as i64
}
