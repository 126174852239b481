//! Numbers of bytes as people write them: `512Ki`, `10Mi`, `1Gi`, or all digits.
//!
//! The binary half of Kubernetes' quantities: at most nine digits, the unit `Ki`, `Mi`, `Gi` or none. Never 0: who wants no
//! limit leaves it out.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The format as a regular expression, for the schema.
pub const PATTERN: &str = "^[1-9][0-9]{0,8}(Ki|Mi|Gi)?$";
const MAX_DIGITS: usize = 9;
/// The largest first, so that a size is written in the largest that divides it.
const UNITS: [(&str, u64); 3] = [("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];

/// A number of bytes, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

/// A text is no number of bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a size; write a whole number of bytes above 0 as text, like 512Ki, 10Mi or 1Gi")]
pub struct InvalidSize(pub String);

impl Size {
    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let (digits, unit) = UNITS
            .iter()
            .find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)))
            .unwrap_or((text, 1));
        let plain = digits.len() <= MAX_DIGITS
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && !digits.starts_with('0');
        let number: Option<u64> = if plain { digits.parse().ok() } else { None };
        number.map(|number| Self(number * unit)).ok_or_else(|| InvalidSize(text.to_owned()))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, bytes)| self.0.is_multiple_of(*bytes)) {
            Some((unit, bytes)) => write!(f, "{}{unit}", self.0 / bytes),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Size {
    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": PATTERN, "maxLength": MAX_DIGITS + 2})
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, bytes, canonical) in [
            ("1", 1, "1"),
            ("1000", 1000, "1000"),
            ("1024", 1024, "1Ki"),
            ("512Ki", 512 << 10, "512Ki"),
            ("10Mi", 10 << 20, "10Mi"),
            ("2048Mi", 2 << 30, "2Gi"),
            ("999999999Gi", 999_999_999 << 30, "999999999Gi"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, canonical), "{text}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in
            ["", "0", "0Mi", "01", "-1", "+1", "1.5Mi", "10M", "10 Mi", "Mi", "1Ti", "10mi", "1234567890"]
        {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn survives_anything_and_writes_what_it_reads(text in any::<String>(), bytes in 1..999_999_999_u64) {
            drop(text.parse::<Size>());
            let size: Size = bytes.to_string().parse().unwrap();
            proptest::prop_assert_eq!(size.to_string().parse::<Size>().unwrap(), size);
        }
    }
}
