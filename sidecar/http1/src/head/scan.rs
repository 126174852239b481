//! Finds the end of a head in bytes that come in pieces, each byte looked at once, and refuses on the way what no parser
//! needs to see: lines that do not end in CRLF (RFC 9112, section 2.2), too long, or too many.

use memchr::memchr_iter;

use crate::{Config, Refusal};

/// Empty lines before a request line that are ignored (RFC 9112, section 2.2).
const MAX_EMPTY: usize = 8;

/// Where a head begins and ends, once it is there whole.
pub type Scanned = Result<Option<(usize, usize)>, Refusal>;

/// How far the bytes have been looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan {
    /// Bytes looked at.
    seen: usize,
    /// Where the head begins, after empty lines.
    start: usize,
    /// Where the current line begins.
    line: usize,
    /// Lines that have ended.
    lines: usize,
    empty: usize,
}

impl Scan {
    /// Where the head begins and ends, once it is there whole. `bytes` are those of the last call and more.
    pub fn scan(&mut self, bytes: &[u8], config: &Config) -> Scanned {
        let from = self.seen;
        for at in memchr_iter(b'\n', bytes.get(from..).unwrap_or_default()) {
            let end = from + at;
            if end == self.line || bytes.get(end - 1) != Some(&b'\r') {
                return Err(Refusal::Malformed("a line ends without CR"));
            }
            let length = end - 1 - self.line;
            self.line = end + 1;
            if length == 0 && self.lines == 0 {
                self.empty()?;
            } else if length == 0 {
                self.check(end + 1, config)?;
                return Ok(Some((self.start, end + 1)));
            } else {
                self.count(length, config)?;
            }
        }
        self.seen = bytes.len();
        self.check(bytes.len(), config)?;
        Ok(None)
    }

    /// Whether a head has begun.
    pub const fn is_inside(&self) -> bool {
        self.seen > self.start
    }

    fn empty(&mut self) -> Result<(), Refusal> {
        self.empty += 1;
        self.start = self.line;
        if self.empty > MAX_EMPTY { Err(Refusal::Malformed("nothing but empty lines")) } else { Ok(()) }
    }

    fn count(&mut self, length: usize, config: &Config) -> Result<(), Refusal> {
        self.lines += 1;
        match self.lines {
            1 if length > config.max_line => Err(Refusal::LineTooLong),
            lines if lines > config.max_headers + 1 => Err(Refusal::TooManyHeaders),
            _ => Ok(()),
        }
    }

    fn check(&self, end: usize, config: &Config) -> Result<(), Refusal> {
        let size = end - self.start;
        if self.lines == 0 && size > config.max_line + 1 {
            return Err(Refusal::LineTooLong);
        }
        if size > config.max_head { Err(Refusal::HeadTooLarge) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn in_pieces(bytes: &[u8], piece: usize, config: &Config) -> Scanned {
        let mut scan = Scan::default();
        let mut end = 0;
        while end < bytes.len() {
            end = (end + piece).min(bytes.len());
            match scan.scan(&bytes[..end], config) {
                Ok(None) => {}
                found => return found,
            }
        }
        Ok(None)
    }

    fn check(bytes: &str, expect: Scanned) {
        let config = Config { max_line: 30, max_head: 60, max_headers: 3, ..Config::default() };
        for piece in [1, 2, 3, 7, 4096] {
            assert_eq!(in_pieces(bytes.as_bytes(), piece, &config), expect, "{bytes:?} by {piece}");
        }
    }

    #[test]
    fn a_head_ends_with_an_empty_line() {
        check("GET / HTTP/1.1\r\na: b\r\n\r\nrest", Ok(Some((0, 24))));
        check("\r\n\r\nGET / HTTP/1.1\r\n\r\n", Ok(Some((4, 22))));
        check("GET / HTTP/1.1\r\na: b\r\n\r", Ok(None));
        check("", Ok(None));
    }

    #[test]
    fn a_bare_line_feed_is_refused_wherever_it_is() {
        let bad = Err(Refusal::Malformed("a line ends without CR"));
        for bytes in [
            "\n",
            "GET / HTTP/1.1\n",
            "GET / HTTP/1.1\r\na: b\n\r\n",
            "GET / HTTP/1.1\r\n\n",
            "a\r\n\r\r\n\n",
        ] {
            check(bytes, bad);
        }
    }

    #[test]
    fn limits_are_kept() {
        check(&format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(30)), Err(Refusal::LineTooLong));
        check(&"x".repeat(40), Err(Refusal::LineTooLong));
        check(&format!("GET / HTTP/1.1\r\na: {}", "x".repeat(60)), Err(Refusal::HeadTooLarge));
        check(&format!("GET / HTTP/1.1\r\n{}\r\n", "a:\r\n".repeat(4)), Err(Refusal::TooManyHeaders));
        check(&"\r\n".repeat(9), Err(Refusal::Malformed("nothing but empty lines")));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(bytes in "[ \r\nA-c:]{0,80}", piece in 1_usize..20) {
            let config = Config { max_line: 40, max_head: 70, max_headers: 6, ..Config::default() };
            // A limit may be seen to be passed before or after a fault that follows it.
            let (whole, cut) = (in_pieces(bytes.as_bytes(), 4096, &config), in_pieces(bytes.as_bytes(), piece, &config));
            match (whole, cut) {
                (Err(_), Err(_)) => {}
                (whole, cut) => prop_assert_eq!(whole, cut),
            }
        }
    }
}
