//! Patterns that several policies compile their configuration into: hosts, names that end in `*`, anchored regular
//! expressions, header values. Everything that can be a plain comparison is one; nothing here allocates at match time.

use http::{HeaderMap, HeaderName};
use regex::bytes::{Regex, RegexBuilder};
use weft_api::v1;

use super::ConfigError;

/// A host name, or all names below one (`*.example.org`, which does not match `example.org` itself).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// Every host.
    Any,
    /// This host.
    Exact(Box<str>),
    /// Names that end in this, which begins with a dot.
    Below(Box<str>),
}

impl HostPattern {
    /// Compiles `example.org`, `*.example.org` or `*`. Upper case is folded, a port or final dot is dropped.
    pub fn new(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        let text = without_port(&text);
        match text.strip_prefix('*') {
            Some("") => Self::Any,
            Some(rest) if rest.starts_with('.') => Self::Below(rest.into()),
            _ => Self::Exact(text.into()),
        }
    }

    /// How narrow it is, for a choice among several that match: an exact name before others, then the longest.
    pub fn rank(&self) -> (bool, usize) {
        match self {
            Self::Any => (false, 0),
            Self::Exact(name) => (true, name.len()),
            Self::Below(suffix) => (false, suffix.len()),
        }
    }

    /// Whether `host` (lower case, without port) is meant.
    pub fn matches(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        match self {
            Self::Any => true,
            Self::Exact(name) => **name == *host,
            Self::Below(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
        }
    }
}

fn without_port(text: &str) -> &str {
    let host = match text.rsplit_once(':') {
        // Not inside the brackets of an IPv6 address.
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !host.ends_with(':') => host,
        _ => text,
    };
    host.strip_suffix('.').unwrap_or(host)
}

/// A text, or every text that begins like it (`/orders*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TextPattern {
    /// This text.
    Exact(Box<str>),
    /// Texts that begin with this.
    Prefix(Box<str>),
}

impl TextPattern {
    /// Compiles a text; `*` at its end makes it a prefix.
    pub fn new(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.into()),
            None => Self::Exact(text.into()),
        }
    }

    /// Whether `text` is meant.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *text,
            Self::Prefix(prefix) => text.starts_with(&**prefix),
        }
    }
}

/// A regular expression that must match the whole text, not a part of it.
#[derive(Clone, Debug)]
pub struct WholeRegex(Regex);

/// Bound on a compiled expression, so that a configuration cannot take the proxy's memory.
const REGEX_SIZE_LIMIT: usize = 256 * 1024;

impl WholeRegex {
    /// Compiles `pattern`. Classes such as `\w` are ASCII: header values and paths are bytes.
    pub fn new(field: &'static str, pattern: &str) -> Result<Self, ConfigError> {
        let compile =
            |text: &str| RegexBuilder::new(text).unicode(false).size_limit(REGEX_SIZE_LIMIT).build();
        // Compiled by itself first: `a)(b` must not become valid by the group around it.
        compile(pattern)
            .and_then(|_| compile(&format!(r"\A(?:{pattern})\z")))
            .map(Self)
            .map_err(|source| ConfigError::Regex { field, pattern: pattern.into(), source: Box::new(source) })
    }

    /// Whether the whole text matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.0.is_match(text)
    }
}

/// What a header or query value must be.
#[derive(Clone, Debug)]
pub enum ValuePattern {
    /// Any value, even an empty one.
    Present,
    /// No such header.
    Absent,
    /// This value.
    Exact(Box<[u8]>),
    /// A value that matches as a whole.
    Regex(WholeRegex),
}

impl ValuePattern {
    /// Whether a value that is there matches.
    pub fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Absent => false,
            Self::Exact(exact) => **exact == *value,
            Self::Regex(regex) => regex.matches(value),
        }
    }
}

/// A header that a request must have.
#[derive(Clone, Debug)]
pub struct HeaderPattern {
    name: HeaderName,
    value: ValuePattern,
}

impl HeaderPattern {
    /// Compiles the wire form. Without a value the header need only be there.
    pub fn new(config: &v1::HeaderMatch) -> Result<Self, ConfigError> {
        use v1::header_match::Value;
        let name = header_name("headers[].name", &config.name)?;
        let value = match &config.value {
            Some(Value::Exact(exact)) => ValuePattern::Exact(exact.as_bytes().into()),
            Some(Value::Regex(regex)) => ValuePattern::Regex(WholeRegex::new("headers[].regex", regex)?),
            Some(Value::Present(false)) => ValuePattern::Absent,
            Some(Value::Present(true)) | None => ValuePattern::Present,
        };
        Ok(Self { name, value })
    }

    /// Whether any of the header's values matches.
    pub fn matches(&self, headers: &HeaderMap) -> bool {
        match &self.value {
            ValuePattern::Absent => !headers.contains_key(&self.name),
            value => headers.get_all(&self.name).iter().any(|v| value.matches(v.as_bytes())),
        }
    }
}

/// A header's name from configuration.
pub(crate) fn header_name(field: &'static str, name: &str) -> Result<HeaderName, ConfigError> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
        ConfigError::invalid(
            field,
            name,
            "write a header name: letters, digits and `-` (RFC 9110, section 5.1)",
        )
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_host_pattern_matches_whole_labels_only() {
        let check = |pattern: &str, host: &str| HostPattern::new(pattern).matches(host);
        assert!(check("shop.example", "shop.example"));
        assert!(check("Shop.Example:8080", "shop.example"));
        assert!(check("shop.example", "shop.example."));
        assert!(check("*.shop.example", "a.shop.example"));
        assert!(check("*.shop.example", "a.b.shop.example"));
        assert!(!check("*.shop.example", "shop.example"));
        assert!(!check("*.shop.example", "xshop.example"));
        assert!(!check("*.shop.example", ".shop.example"));
        assert!(check("*", "anything"));
        assert!(check("[::1]:80", "[::1]"));
    }

    #[test]
    fn the_narrower_host_pattern_ranks_higher() {
        let order = ["*", "*.example", "*.shop.example", "a.example", "shop.example"];
        assert!(order.map(|text| HostPattern::new(text).rank()).is_sorted());
    }

    #[test]
    fn a_regex_matches_the_whole_value_or_nothing() {
        let regex = |text: &str| WholeRegex::new("test", text);
        assert!(regex("a|b").unwrap().matches(b"b"));
        assert!(!regex("a|b").unwrap().matches(b"ab"));
        assert!(!regex("v[0-9]+").unwrap().matches(b"v1\nv2"));
        assert!(regex(r"\w+").unwrap().matches(b"abc"));
        assert!(regex("a)(b").is_err());
        assert!(regex("(").is_err());
        assert!(regex(r"(\w{500}){500}").is_err(), "too large a program is refused");
    }

    proptest! {
        #[test]
        fn below_equals_the_naive_reading(label in "[a-z]{0,4}", parent in "[a-z]{1,4}\\.[a-z]{1,4}", host in "[a-z.]{0,14}") {
            let pattern = HostPattern::new(&format!("*.{parent}"));
            let whole = format!("{label}.{parent}");
            prop_assert_eq!(pattern.matches(&whole), !label.is_empty());
            let bare = host.strip_suffix('.').unwrap_or(&host);
            let naive = bare.strip_suffix(&parent).and_then(|h| h.strip_suffix('.')).is_some_and(|h| !h.is_empty());
            prop_assert_eq!(pattern.matches(&host), naive);
        }

        #[test]
        fn any_header_name_is_refused_or_kept_in_lower_case(name in "[ -~]{0,12}") {
            if let Ok(parsed) = header_name("test", &name) {
                prop_assert_eq!(parsed.as_str(), name.to_ascii_lowercase());
            }
        }
    }
}
