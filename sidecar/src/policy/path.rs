//! The path as policies see it: normalised once, before anything looks at it, and forwarded as it was looked at, so that
//! proxy and application never read two different paths (RFC 3986, section 6.2.2).
//!
//! Escapes of unreserved characters are decoded, other escapes get upper-case digits, dot segments are resolved, `//`
//! becomes `/`. Refused: broken escapes, `%00` and other control characters, `..` hidden behind an encoded slash or a
//! path parameter. An encoded slash or backslash itself stays encoded and makes the path ambiguous: policies that decide
//! by path refuse such a path, others let it through. The query is not touched.

use crate::reject::{Reason, Reject};

/// A normalised path without query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormalPath {
    text: Box<str>,
    ambiguous: bool,
}

impl NormalPath {
    /// Normalises the path of a request target. `*` (OPTIONS) stays, an empty path is `/`.
    pub fn parse(raw: &str) -> Result<Self, Reject> {
        if raw.is_empty() {
            return Ok(Self { text: "/".into(), ambiguous: false });
        }
        if is_normal(raw) || raw == "*" {
            return Ok(Self { text: raw.into(), ambiguous: false });
        }
        normalise(raw).map_err(|why| Reject::new(Reason::BadRequest).because(why))
    }

    /// The text, starting with `/`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it holds an encoded slash or backslash (`%2F`, `%5C`), or a bare backslash, which the application may
    /// read as the border of a segment. Who decides by path must refuse such a path.
    pub fn is_ambiguous(&self) -> bool {
        self.ambiguous
    }
}

/// What nearly every path is: nothing to decode, to resolve or to refuse.
fn is_normal(raw: &str) -> bool {
    let bytes = raw.as_bytes();
    let plain = |pair: &[u8]| is_plain(pair[1]) && !(pair[0] == b'/' && matches!(pair[1], b'/' | b'.'));
    bytes.first() == Some(&b'/') && bytes.windows(2).all(plain)
}

/// Characters of a path that stay as they are (RFC 3986, section 3.3).
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte)
}

fn normalise(raw: &str) -> Result<NormalPath, &'static str> {
    let rest = raw.strip_prefix('/').ok_or("the path does not begin with `/`")?;
    let decoded = decode(rest.as_bytes())?;
    let mut text = String::with_capacity(decoded.len() + 1);
    let mut last_is_dots = false;
    for segment in decoded.split('/') {
        last_is_dots = matches!(segment, "." | "..");
        match segment {
            "" | "." => {}
            ".." => text.truncate(text.rfind('/').unwrap_or(0)),
            hidden if hides_dots(hidden) => return Err("the path hides `..`"),
            segment => {
                text.push('/');
                text.push_str(segment);
            }
        }
    }
    if text.is_empty() || decoded.ends_with('/') || last_is_dots {
        text.push('/');
    }
    let ambiguous = text.contains("%2F") || text.contains("%5C");
    Ok(NormalPath { text: text.into(), ambiguous })
}

/// Resolves escapes: decodes what needs none, keeps the others with upper-case digits.
fn decode(raw: &[u8]) -> Result<String, &'static str> {
    let mut out = String::with_capacity(raw.len());
    let mut at = 0;
    while let Some(&byte) = raw.get(at) {
        at += 1;
        let byte = if byte == b'%' {
            let value = raw.get(at..at + 2).and_then(hex).ok_or("the path holds a broken escape")?;
            at += 2;
            if value.is_ascii_alphanumeric() || b"-._~".contains(&value) {
                out.push(char::from(value));
                continue;
            }
            value
        } else if is_plain(byte) {
            out.push(char::from(byte));
            continue;
        } else {
            byte
        };
        if byte.is_ascii_control() {
            return Err("the path holds a control character");
        }
        push_escape(&mut out, byte);
    }
    Ok(out)
}

fn hex(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let value = digit(*digits.first()?)? * 16 + digit(*digits.get(1)?)?;
    u8::try_from(value).ok()
}

fn push_escape(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// Whether a segment holds dot segments that some servers would see: `..%2Fadmin`, `..;x`.
fn hides_dots(segment: &str) -> bool {
    if !segment.contains("..") && !segment.starts_with('.') && !segment.contains('%') {
        return false;
    }
    let separated = segment.replace("%2F", "/").replace("%5C", "/");
    separated.split('/').any(|part| matches!(part.split(';').next(), Some("." | "..")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(raw: &str) -> Option<String> {
        NormalPath::parse(raw).ok().map(|path| path.as_str().to_owned())
    }

    #[test]
    fn paths_are_normalised() {
        for (raw, normal) in [
            ("", "/"),
            ("/", "/"),
            ("*", "*"),
            ("/orders", "/orders"),
            ("/orders/", "/orders/"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/../../etc/passwd", "/etc/passwd"),
            ("//a///b//", "/a/b/"),
            ("/%61dmin", "/admin"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/%7euser", "/~user"),
            ("/a%3ab", "/a%3Ab"),
            ("/a b", "/a%20b"),
            ("/caf\u{e9}", "/caf%C3%A9"),
            ("/a%252fb", "/a%252fb"),
            ("/.well-known/jwks.json", "/.well-known/jwks.json"),
            ("/a/...", "/a/..."),
            ("/a..b", "/a..b"),
            ("/a;v=1/b", "/a;v=1/b"),
            ("/weft.v1.Config/Subscribe", "/weft.v1.Config/Subscribe"),
        ] {
            assert_eq!(parse(raw).as_deref(), Some(normal), "{raw}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused_or_marked() {
        for raw in [
            "orders",
            "/a%",
            "/a%2",
            "/a%zz",
            "/a%00",
            "/a%0d%0aset-cookie",
            "/a\u{7f}",
            "/api/..%2Fadmin",
            "/api/%2e%2e%2fadmin",
            "/api/..%5cadmin",
            "/api\\..\\admin",
            "/api/..;/admin",
            "/api/..;x=1/admin",
            "/api/.;/admin",
        ] {
            let reject = NormalPath::parse(raw).expect_err(raw);
            assert_eq!(reject.reason, Reason::BadRequest, "{raw}");
        }
        assert!(NormalPath::parse("/projects/group%2fname").unwrap().is_ambiguous());
        assert!(NormalPath::parse("/a\\b").unwrap().is_ambiguous());
        assert!(!NormalPath::parse("/a%20b").unwrap().is_ambiguous());
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(raw in "/[a-c./%25eEfF0;\\\\\u{e9} ]{0,24}") {
            if let Ok(once) = NormalPath::parse(&raw) {
                let twice = NormalPath::parse(once.as_str()).unwrap();
                prop_assert_eq!(&twice, &once);
            }
        }

        #[test]
        fn the_root_is_never_left(raw in "/([a-c]|\\.|/|%2e|%2f|%5c|;){0,16}") {
            if let Ok(path) = NormalPath::parse(&raw) {
                prop_assert!(path.as_str().starts_with('/'));
                prop_assert!(!path.as_str().contains("//"));
                let read = path.as_str().replace("%2F", "/").replace("%5C", "/");
                prop_assert!(read.split('/').all(|s| s != ".." && s != "."), "{}", path.as_str());
            }
        }

        #[test]
        fn any_text_is_refused_or_plain_ascii(raw in ".{0,40}") {
            if let Ok(path) = NormalPath::parse(&raw) {
                prop_assert!(path.as_str().bytes().all(|b| b.is_ascii_graphic()));
            }
        }
    }
}
