//! How long a body is (RFC 9112, section 6), decided strictly: what two readers could understand differently is refused.

use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, HeaderValue, Method, StatusCode, Version};

use crate::Refusal;

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By its length; 0: there is none.
    Length(u64),
    /// By chunks.
    Chunked,
    /// By the end of the connection; answers only.
    UntilClose,
}

/// What the header lines of a head say about framing and about the connection.
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one word that a header may say, in any combination"
)]
pub struct Fields {
    length: Option<u64>,
    chunked: Option<bool>,
    coded: bool,
    close: bool,
    keep_alive: bool,
    connection_upgrade: bool,
    upgrade: bool,
    expect: bool,
}

impl Fields {
    /// Looks at one header line.
    pub fn see(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Refusal> {
        // Most names are neither of these, and told apart by their length.
        match name.as_str().len() {
            14 if *name == CONTENT_LENGTH => self.length(value.as_bytes()),
            17 if *name == TRANSFER_ENCODING => self.coding(value.as_bytes()),
            10 if *name == CONNECTION => {
                self.connection(value.as_bytes());
                Ok(())
            }
            7 if *name == UPGRADE => {
                self.upgrade = true;
                Ok(())
            }
            6 if *name == EXPECT => {
                self.expect |= value.as_bytes().eq_ignore_ascii_case(b"100-continue");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Digits, once: a repeated line or a list is refused even where all say the same.
    fn length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        let length = parse_length(value).ok_or(Refusal::Malformed("Content-Length is no number"))?;
        match self.length.replace(length) {
            Some(_) => Err(Refusal::Malformed("Content-Length is repeated")),
            None => Ok(()),
        }
    }

    /// `chunked` must come last and once (RFC 9112, section 6.3); other codings are not known here.
    fn coding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        for coding in value.split(|&byte| byte == b',') {
            let coding = trim(coding);
            if self.chunked == Some(true) {
                return Err(Refusal::Malformed("chunked is not the last transfer coding"));
            }
            if coding.is_empty() {
                return Err(Refusal::Malformed("empty transfer coding"));
            }
            let chunked = coding.eq_ignore_ascii_case(b"chunked");
            self.chunked = Some(chunked);
            self.coded |= !chunked;
        }
        Ok(())
    }

    fn connection(&mut self, value: &[u8]) {
        for token in value.split(|&byte| byte == b',') {
            let token = trim(token);
            self.close |= token.eq_ignore_ascii_case(b"close");
            self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
            self.connection_upgrade |= token.eq_ignore_ascii_case(b"upgrade");
        }
    }

    /// Whether the connection may be used further.
    pub fn persists(&self, version: Version) -> bool {
        !self.close && (version == Version::HTTP_11 || self.keep_alive)
    }

    /// Whether the client waits for 100 before it sends the body; HTTP/1.0 knows no such thing (RFC 9110, section 10.1.1).
    pub fn expects(&self, version: Version) -> bool {
        self.expect && version == Version::HTTP_11
    }

    /// Whether another protocol is offered.
    pub fn upgrades(&self, version: Version) -> bool {
        self.upgrade && self.connection_upgrade && version == Version::HTTP_11
    }

    fn framing(&self, version: Version) -> Result<Option<Framing>, Refusal> {
        let Some(chunked) = self.chunked else { return Ok(self.length.map(Framing::Length)) };
        match () {
            () if self.length.is_some() => Err(Refusal::Malformed("Content-Length beside Transfer-Encoding")),
            () if version != Version::HTTP_11 => Err(Refusal::Malformed("Transfer-Encoding in HTTP/1.0")),
            () if !chunked => Err(Refusal::Malformed("chunked is not the last transfer coding")),
            () if self.coded => Err(Refusal::UnknownCoding),
            () => Ok(Some(Framing::Chunked)),
        }
    }

    /// Of a request: without a word about it there is no body. CONNECT has none.
    pub fn of_request(&self, method: &Method, version: Version) -> Result<Framing, Refusal> {
        let framing = self.framing(version)?.unwrap_or(Framing::Length(0));
        if *method == Method::CONNECT && framing != Framing::Length(0) {
            return Err(Refusal::Malformed("CONNECT with a body"));
        }
        Ok(framing)
    }

    /// Of an answer to a request with this method.
    pub fn of_answer(
        &self,
        method: &Method,
        status: StatusCode,
        version: Version,
    ) -> Result<Framing, Refusal> {
        if !has_body(method, status) {
            return Ok(Framing::Length(0));
        }
        Ok(self.framing(version)?.unwrap_or(Framing::UntilClose))
    }
}

/// Whether an answer with this status to a request with this method has a body (RFC 9112, section 6.3).
pub fn has_body(method: &Method, status: StatusCode) -> bool {
    let none = status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || *method == Method::HEAD;
    !(none || is_switch(method, status))
}

/// Whether an answer with this status ends HTTP on its connection.
pub fn is_switch(method: &Method, status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS || (*method == Method::CONNECT && status.is_success())
}

/// `1*DIGIT` that fits.
pub fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |length, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}

/// Without optional whitespace, which is space and tab and nothing else (RFC 9110, section 5.6.3).
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> Result<Fields, Refusal> {
        let mut fields = Fields::default();
        for (name, value) in lines {
            fields.see(&HeaderName::from_static(name), &HeaderValue::from_static(value))?;
        }
        Ok(fields)
    }

    fn check(lines: &[(&'static str, &'static str)], expect: Option<Framing>) {
        let found = fields(lines).and_then(|fields| fields.of_request(&Method::POST, Version::HTTP_11));
        assert_eq!(found.ok(), expect, "{lines:?}");
    }

    #[test]
    fn a_length_is_digits_once() {
        check(&[], Some(Framing::Length(0)));
        check(&[("content-length", "5")], Some(Framing::Length(5)));
        check(&[("content-length", "18446744073709551615")], Some(Framing::Length(u64::MAX)));
        for bad in ["", "+5", "-5", "5 5", "5,5", "5, 5", "0x5", "18446744073709551616", "5a"] {
            check(&[("content-length", bad)], None);
        }
        check(&[("content-length", "5"), ("content-length", "5")], None);
    }

    #[test]
    fn chunked_is_last_once_and_alone() {
        check(&[("transfer-encoding", "chunked")], Some(Framing::Chunked));
        check(&[("transfer-encoding", " \tChunked ")], Some(Framing::Chunked));
        for bad in [
            "",
            "gzip",
            "chunked, gzip",
            "chunked, chunked",
            "xchunked",
            "chunked,",
            ",chunked",
            "chunked;q=1",
        ] {
            check(&[("transfer-encoding", bad)], None);
        }
        check(&[("transfer-encoding", "chunked"), ("transfer-encoding", "identity")], None);
        check(&[("transfer-encoding", "chunked"), ("content-length", "1")], None);
        check(&[("content-length", "1"), ("transfer-encoding", "chunked")], None);
    }

    #[test]
    fn a_known_framing_of_unknown_coding_is_501() {
        let fields = fields(&[("transfer-encoding", "gzip, chunked")]).unwrap();
        assert_eq!(fields.of_request(&Method::POST, Version::HTTP_11), Err(Refusal::UnknownCoding));
        assert!(fields.of_request(&Method::POST, Version::HTTP_10).is_err());
    }

    #[test]
    fn answers_without_a_body_have_none_whatever_they_say() {
        let fields = fields(&[("content-length", "5")]).unwrap();
        let of = |method: &Method, status| {
            fields.of_answer(method, StatusCode::from_u16(status).unwrap(), Version::HTTP_11).unwrap()
        };
        assert_eq!(of(&Method::GET, 200), Framing::Length(5));
        for (method, status) in [
            (Method::HEAD, 200),
            (Method::GET, 204),
            (Method::GET, 304),
            (Method::GET, 103),
            (Method::CONNECT, 200),
        ] {
            assert_eq!(of(&method, status), Framing::Length(0), "{method} {status}");
        }
        assert_eq!(of(&Method::CONNECT, 407), Framing::Length(5));
    }
}
