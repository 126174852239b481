//! Lengths of time as people write them: `5s`, `100ms`, `1m`, `1h30m`, `24h`.
//!
//! The format is that of Gateway API (GEP-2257): up to four whole numbers of at most five digits, each with the
//! unit `h`, `m`, `s` or `ms`. It is a subset of what CEL's `duration()` reads, which the CRDs' rules rely on.
//! Fractions, days and bare numbers are refused.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The format as a regular expression, for the schema.
pub const PATTERN: &str = "^([0-9]{1,5}(h|m|s|ms)){1,4}$";
const MAX_DIGITS: usize = 5;
const MAX_PARTS: usize = 4;

/// A length of time, in whole milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(std::time::Duration);

/// A text is no length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration; write whole numbers with units h, m, s or ms, like 5s, 100ms or 1h30m")]
pub struct InvalidDuration(pub String);

impl Duration {
    /// A length in seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(std::time::Duration::from_secs(secs))
    }

    /// A length in milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(std::time::Duration::from_millis(millis))
    }

    /// The standard library's form.
    pub const fn get(self) -> std::time::Duration {
        self.0
    }

    /// Whether this is no time at all.
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    fn millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl From<Duration> for std::time::Duration {
    fn from(duration: Duration) -> Self {
        duration.0
    }
}

impl FromStr for Duration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        let invalid = || InvalidDuration(text.to_owned());
        let mut rest = text;
        let mut total = 0_u64;
        for _ in 0..MAX_PARTS {
            let (part, after) = parse_part(rest).ok_or_else(invalid)?;
            total += part;
            rest = after;
            if rest.is_empty() {
                return Ok(Self::from_millis(total));
            }
        }
        Err(invalid())
    }
}

/// Reads one number with its unit and gives its milliseconds and what follows it.
fn parse_part(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits > MAX_DIGITS {
        return None;
    }
    let (number, rest) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    // `ms` before `m`, which is its prefix.
    let units = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    units.iter().find_map(|(unit, millis)| Some((number * millis, rest.strip_prefix(unit)?)))
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.millis();
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, millis) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            let count = left / millis;
            left %= millis;
            if count > 0 {
                write!(f, "{count}{unit}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // Four parts of five digits and two letters at most.
        json_schema!({"type": "string", "pattern": PATTERN, "maxLength": 28})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};

    fn check(text: &str, millis: u64, canonical: &str) {
        let parsed: Duration = text.parse().unwrap();
        assert_eq!(parsed, Duration::from_millis(millis), "{text}");
        assert_eq!(parsed.to_string(), canonical, "{text}");
    }

    #[test]
    fn reads_what_people_write() {
        check("5s", 5_000, "5s");
        check("100ms", 100, "100ms");
        check("1m", 60_000, "1m");
        check("90m", 5_400_000, "1h30m");
        check("1h30m", 5_400_000, "1h30m");
        check("24h", 86_400_000, "24h");
        check("8760h", 31_536_000_000, "8760h");
        check("1500ms", 1_500, "1s500ms");
        check("0s", 0, "0s");
        check("30m1h", 5_400_000, "1h30m");
    }

    #[test]
    fn refuses_everything_else() {
        for text in
            ["", "5", "s", "1.5s", "-1s", " 5s", "5s ", "5 s", "1d", "100000s", "1h1m1s1ms1s", "5S", "٥s"]
        {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }

    #[test]
    fn agrees_with_the_pattern_of_the_schema() {
        let pattern = regex::Regex::new(PATTERN).unwrap();
        proptest!(|(text in "([0-9]{0,6}(h|m|s|ms|d)?){0,5}")| {
            assert_eq!(text.parse::<Duration>().is_ok(), pattern.is_match(&text), "{text}");
        });
    }

    #[test]
    fn what_is_written_reads_back() {
        // 99999h is the longest a first part can say.
        proptest!(|(millis in 0_u64..359_996_400_000)| {
            let duration = Duration::from_millis(millis);
            assert_eq!(duration.to_string().parse(), Ok(duration));
        });
    }

    #[test]
    fn no_text_makes_it_panic() {
        proptest!(|(text in any::<String>())| { text.parse::<Duration>().ok(); });
    }
}
