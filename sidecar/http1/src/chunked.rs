//! Chunked bodies (RFC 9112, section 7.1), read byte by byte by the grammar: hexadecimal digits, extensions that are
//! bounded and ignored, CRLF and nothing else as line end, trailers that are bounded and stripped of what must not stand
//! there. Pieces of data are cut out of what was read, not copied.

use bytes::{Buf, Bytes};
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::Refusal;

/// Hexadecimal digits of a size.
const MAX_DIGITS: u8 = 16;
/// Bytes of the extensions of a whole body.
const MAX_EXTENSIONS: usize = 16 << 10;
/// Bytes of trailers.
const MAX_TRAILERS: usize = 8 << 10;
/// Trailer lines.
const MAX_LINES: usize = 64;

/// Reads one body.
#[derive(Debug, Default)]
pub struct Chunked {
    at: At,
    /// What is left of the chunk, or what its size is so far.
    left: u64,
    /// Digits of the size.
    digits: u8,
    extensions: usize,
    trailers: Vec<u8>,
    /// Where the current trailer line begins.
    line: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// Before the first digit of a size.
    #[default]
    Size,
    Digits,
    /// After the size: whitespace, until the semicolon.
    Space,
    Extension,
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    Trailers,
    Done,
}

/// What is found next.
#[derive(Debug)]
pub enum Piece {
    /// Data.
    Data(Bytes),
    /// The end.
    End(Option<HeaderMap>),
    /// More bytes are needed.
    More,
}

impl Chunked {
    /// Takes the next piece out of these bytes; what follows the body is left.
    pub fn next(&mut self, bytes: &mut Bytes) -> Result<Piece, Refusal> {
        loop {
            match self.at {
                At::Done => return Ok(Piece::End(None)),
                At::Trailers => return self.end(bytes),
                At::Data => return Ok(self.data(bytes)),
                _ => {}
            }
            let Some(&byte) = bytes.first() else { return Ok(Piece::More) };
            bytes.advance(1);
            self.step(byte)?;
        }
    }

    fn data(&mut self, bytes: &mut Bytes) -> Piece {
        if bytes.is_empty() {
            return Piece::More;
        }
        let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        self.left -= here as u64;
        if self.left == 0 {
            self.at = At::DataCr;
        }
        Piece::Data(bytes.split_to(here))
    }

    fn end(&mut self, bytes: &mut Bytes) -> Result<Piece, Refusal> {
        Ok(if self.trailers(bytes)? { Piece::End(self.parse_trailers()?) } else { Piece::More })
    }

    /// Whether the body has been read to its end.
    pub fn is_done(&self) -> bool {
        self.at == At::Done
    }

    fn step(&mut self, byte: u8) -> Result<(), Refusal> {
        self.at = match (self.at, byte) {
            (At::Size | At::Digits, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.digits += 1;
                if self.digits > MAX_DIGITS {
                    return Err(Refusal::Malformed("chunk size too long"));
                }
                self.left = self.left * 16 + u64::from(digit);
                At::Digits
            }
            (At::Digits | At::Extension, b'\r') => At::SizeEnd,
            (At::Digits | At::Space, b';') => self.extend().map(|()| At::Extension)?,
            (At::Digits | At::Space, b' ' | b'\t') => self.extend().map(|()| At::Space)?,
            (At::Extension, b'\t' | 0x20..=0x7e | 0x80..=0xff) => self.extend().map(|()| At::Extension)?,
            (At::SizeEnd, b'\n') if self.left == 0 => At::Trailers,
            (At::SizeEnd, b'\n') => At::Data,
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => {
                self.digits = 0;
                At::Size
            }
            _ => return Err(Refusal::Malformed("bad chunk")),
        };
        Ok(())
    }

    /// Extensions are a way to make others read much for little.
    fn extend(&mut self) -> Result<(), Refusal> {
        self.extensions += 1;
        if self.extensions > MAX_EXTENSIONS {
            return Err(Refusal::Malformed("chunk extensions too large"));
        }
        Ok(())
    }

    /// Takes trailer lines; true after the empty one.
    fn trailers(&mut self, bytes: &mut Bytes) -> Result<bool, Refusal> {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let line = bytes.split_to(end + 1);
            self.keep(&line)?;
            let length = self.trailers.len() - self.line;
            if !self.trailers.ends_with(b"\r\n") {
                return Err(Refusal::Malformed("a trailer line ends without CR"));
            }
            if length == 2 {
                self.at = At::Done;
                return Ok(true);
            }
            self.line = self.trailers.len();
        }
        self.keep(bytes)?;
        bytes.clear();
        Ok(false)
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if self.trailers.len() + bytes.len() > MAX_TRAILERS {
            return Err(Refusal::HeadTooLarge);
        }
        self.trailers.extend_from_slice(bytes);
        Ok(())
    }

    fn parse_trailers(&mut self) -> Result<Option<HeaderMap>, Refusal> {
        let bytes = Bytes::from(std::mem::take(&mut self.trailers));
        if bytes.len() <= 2 {
            return Ok(None);
        }
        let mut lines = [httparse::EMPTY_HEADER; MAX_LINES];
        let bad = Refusal::Malformed("bad trailer");
        let lines = match httparse::parse_headers(&bytes, &mut lines) {
            Ok(httparse::Status::Complete((length, lines))) if length == bytes.len() => lines,
            Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooManyHeaders),
            _ => return Err(bad),
        };
        let mut trailers = HeaderMap::with_capacity(lines.len());
        for line in lines {
            let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| bad)?;
            let value = HeaderValue::from_maybe_shared(bytes.slice_ref(line.value)).map_err(|_| bad)?;
            if may_trail(&name) {
                trailers.try_append(name, value).map_err(|_| Refusal::TooManyHeaders)?;
            }
        }
        Ok((!trailers.is_empty()).then_some(trailers))
    }
}

/// Whether a field may stand in trailers: not what frames, routes, authenticates, asks for conditions, or says how to read
/// and keep what came (RFC 9110, section 6.5.1).
pub fn may_trail(name: &HeaderName) -> bool {
    const PREFIXES: [&str; 5] = ["proxy-", "if-", "x-forwarded-", "x-weft-", "access-control-"];
    let name = name.as_str();
    let never = matches!(
        name,
        "age"
            | "authorization"
            | "cache-control"
            | "connection"
            | "content-encoding"
            | "content-length"
            | "content-location"
            | "content-range"
            | "content-type"
            | "cookie"
            | "date"
            | "expect"
            | "expires"
            | "forwarded"
            | "host"
            | "keep-alive"
            | "location"
            | "max-forwards"
            | "range"
            | "retry-after"
            | "set-cookie"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "vary"
            | "www-authenticate"
    );
    !never && !PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Writes the line before a chunk of this size.
pub fn print_size(out: &mut Vec<u8>, size: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let bits = usize::BITS - size.leading_zeros();
    for shift in (0..bits.div_ceil(4).max(1)).rev() {
        out.push(DIGITS[(size >> (shift * 4)) & 0xf]);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Read = Result<(Vec<u8>, Vec<(String, String)>, usize), Refusal>;

    /// Data, trailers, and how many bytes are left, reading pieces of this size.
    fn read(bytes: &[u8], piece: usize) -> Option<Read> {
        let mut chunked = Chunked::default();
        let (mut data, mut fed) = (Vec::new(), 0);
        let mut input = Bytes::new();
        loop {
            match chunked.next(&mut input) {
                Err(refusal) => return Some(Err(refusal)),
                Ok(Piece::Data(piece)) => data.extend_from_slice(&piece),
                Ok(Piece::End(trailers)) => {
                    let trailers = trailers.unwrap_or_default();
                    let trailers =
                        trailers.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned()));
                    return Some(Ok((data, trailers.collect(), bytes.len() - fed + input.len())));
                }
                Ok(Piece::More) if fed == bytes.len() => return None,
                Ok(Piece::More) => {
                    let end = (fed + piece).min(bytes.len());
                    input = Bytes::copy_from_slice(&bytes[fed..end]);
                    fed = end;
                }
            }
        }
    }

    type Expected<'a> = Option<(&'a str, &'a [(&'a str, &'a str)], usize)>;

    fn check(bytes: &str, expect: Expected<'_>) {
        for piece in [1, 2, 3, 7, 4096] {
            let found = read(bytes.as_bytes(), piece).expect("whole").ok();
            let found = found.as_ref().map(|(data, trailers, left)| {
                let trailers: Vec<_> = trailers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                (std::str::from_utf8(data).unwrap(), trailers, *left)
            });
            let expect = expect.map(|(data, trailers, left)| (data, trailers.to_vec(), left));
            assert_eq!(found, expect, "{bytes:?} by {piece}");
        }
    }

    #[test]
    fn chunks_are_joined_and_what_follows_is_left() {
        check("0\r\n\r\n", Some(("", &[], 0)));
        check("3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\nGET", Some(("abc0123456789", &[], 3)));
        check("003;a=\"b\"\r\nabc\r\n0\r\n\r\n", Some(("abc", &[], 0)));
        check("1 ;x\r\na\r\n0\r\n\r\n", Some(("a", &[], 0)));
        check("0\r\nA: b\r\nc:d\r\n\r\nX", Some(("", &[("a", "b"), ("c", "d")], 1)));
        check(
            "0\r\ncontent-length: 5\r\nhost: x\r\nx-weft-a: b\r\nok: 1\r\n\r\n",
            Some(("", &[("ok", "1")], 0)),
        );
    }

    #[test]
    fn what_breaks_the_grammar_is_refused() {
        for bad in [
            "g\r\n",
            "\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "1 \r\n",
            "1\n",
            "1\r\r\n",
            "1\r\nab\r\n",
            "1\r\na\n0\r\n\r\n",
            "1;\n",
            "1;\u{0}\r\n",
            "1;a\u{7f}\r\n",
            "10000000000000000\r\n",
            "0\r\n\n",
            "0\r\na: b\n\r\n",
            "0\r\n a: b\r\n\r\n",
            "0\r\na : b\r\n\r\n",
            "0\r\nab\r\n\r\n",
            "0\r\n: b\r\n\r\n",
            "1_0\r\n",
            "1,\r\n",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let long = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(MAX_EXTENSIONS));
        check(&long, None);
        check(&format!("0\r\na: {}\r\n\r\n", "x".repeat(MAX_TRAILERS)), None);
        check(&format!("0\r\n{}\r\n", "a: b\r\n".repeat(MAX_LINES + 1)), None);
    }

    #[test]
    fn sizes_are_written_in_hexadecimal() {
        for size in [1, 9, 10, 15, 16, 255, 256, 65536, usize::MAX] {
            let mut out = Vec::new();
            print_size(&mut out, size);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{size:x}\r\n"));
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(bytes in "[0-3a ;\r\n:]{0,60}", piece in 1_usize..20) {
            prop_assert_eq!(read(bytes.as_bytes(), 4096), read(bytes.as_bytes(), piece));
        }

        #[test]
        fn what_is_written_is_read(pieces in proptest::collection::vec("[a-z]{1,40}", 0..8), cut in 1_usize..50) {
            let mut bytes = Vec::new();
            for piece in &pieces {
                print_size(&mut bytes, piece.len());
                bytes.extend_from_slice(piece.as_bytes());
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
            let (data, _, left) = read(&bytes, cut).unwrap().unwrap();
            prop_assert_eq!((data, left), (pieces.concat().into_bytes(), 0));
        }
    }
}
