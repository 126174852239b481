//! Heads and trailers as bytes and back (README, "Heads"). One form per meaning: lengths before what they measure, in
//! their shortest form; no name that says how a message is framed. Pure, and the same for both sides.

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TE, UPGRADE};
use http::uri::{Authority, PathAndQuery, Uri};
use http::{Method, StatusCode, Version, request, response};

use crate::names;

const REQUEST: u8 = 1;
const SWITCH: u8 = 2;
const TCP: u8 = 3;
const ANSWER: u8 = 4;
/// The longest length: three groups of seven bits.
const MAX_LENGTH: usize = (1 << 21) - 1;

const METHODS: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::CONNECT,
    Method::OPTIONS,
    Method::TRACE,
    Method::PATCH,
];

/// What opens a stream.
#[derive(Debug)]
pub enum Opening {
    /// A request.
    Request(Box<request::Parts>),
    /// A request to end HTTP on its stream: an upgrade, whose protocol stands in `Upgrade` again, or CONNECT.
    Switch(Box<request::Parts>),
    /// Raw bytes.
    Tcp,
}

/// Why a head cannot be written, or what came is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// It ends within one of its parts, or goes on after its last.
    #[error("a head of the wrong length")]
    Length,
    /// A length in more bytes than it needs.
    #[error("a length that is not in its shortest form")]
    Long,
    /// A kind, version or status that there is not.
    #[error("not a head of this kind")]
    Kind,
    /// Not a method.
    #[error("not a method")]
    Method,
    /// Neither path nor authority.
    #[error("not a target")]
    Target,
    /// Not a name in lower case.
    #[error("not a field name")]
    Name,
    /// A name about framing or one hop.
    #[error("a field that has no place in a head")]
    Forbidden,
    /// Not a value.
    #[error("not a field value")]
    Value,
    /// Several hosts, or several or no numbers as content length.
    #[error("ambiguous host or length")]
    Ambiguous,
    /// More fields than allowed.
    #[error("too many fields")]
    TooMany,
    /// More bytes than allowed.
    #[error("too large")]
    TooLarge,
}

/// A request to be sent, borrowed from whoever may have to send it again.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Method.
    pub method: &'a Method,
    /// Target: its path and query, the authority where it has one and for CONNECT.
    pub uri: &'a Uri,
    /// What the client spoke.
    pub version: Version,
    /// Fields; what concerns one hop or the framing is left out.
    pub headers: &'a HeaderMap,
    /// The protocol to switch to.
    pub upgrade: Option<&'a HeaderValue>,
}

impl Asked<'_> {
    /// Whether it shall end HTTP on its stream if the peer agrees.
    pub fn is_switch(&self) -> bool {
        self.upgrade.is_some() || *self.method == Method::CONNECT
    }
}

/// Writes a request's head. `switch`: as one that may end HTTP on its stream.
pub fn put_request(out: &mut BytesMut, request: Asked<'_>, switch: bool) -> Result<(), HeadError> {
    out.put_u8(if switch { SWITCH } else { REQUEST });
    out.put_u8(version_number(request.version)?);
    let known = (1..).zip(&METHODS).find(|(_, known)| *known == request.method);
    out.put_u8(known.map_or(0, |(number, _)| number));
    if known.is_none() {
        put_text(out, request.method.as_str().as_bytes())?;
    }
    if *request.method == Method::CONNECT {
        put_text(out, b"")?;
    } else {
        put_text(out, request.uri.path_and_query().map_or("/", PathAndQuery::as_str).as_bytes())?;
    }
    put_text(out, host(request)?)?;
    if switch {
        put_text(out, request.upgrade.map(HeaderValue::as_bytes).unwrap_or_default())?;
    }
    put_fields(out, request.headers)
}

/// Writes an answer's head.
pub fn put_answer(out: &mut BytesMut, status: StatusCode, headers: &HeaderMap) -> Result<(), HeadError> {
    out.put_u8(ANSWER);
    out.put_u16(status.as_u16());
    if status == StatusCode::SWITCHING_PROTOCOLS {
        put_text(out, headers.get(UPGRADE).map(HeaderValue::as_bytes).unwrap_or_default())?;
    }
    put_fields(out, headers)
}

/// Writes the head of a raw stream.
pub fn put_tcp(out: &mut BytesMut) {
    out.put_u8(TCP);
}

/// Writes fields: of a head, or trailers. What concerns one hop or the framing is left out.
pub fn put_fields(out: &mut BytesMut, headers: &HeaderMap) -> Result<(), HeadError> {
    let at = out.len();
    out.put_u16(0);
    let mut count: u16 = 0;
    for (name, value) in headers {
        match names::number(name) {
            Some(_) if name == TE && !is_trailers(value) => continue,
            Some(number) => out.put_u8(number),
            None if is_forbidden(name) => continue,
            None => {
                out.put_u8(0);
                put_text(out, name.as_str().as_bytes())?;
            }
        }
        put_text(out, value.as_bytes())?;
        count = count.checked_add(1).ok_or(HeadError::TooMany)?;
    }
    if let Some(place) = out.get_mut(at..at + 2) {
        place.copy_from_slice(&count.to_be_bytes());
    }
    Ok(())
}

/// Reads what opens a stream. The request has the authority in its one `Host` and a target in origin-form (CONNECT: the
/// authority).
pub fn opening(bytes: Bytes, max_fields: u16) -> Result<Opening, HeadError> {
    let mut from = Cursor { bytes, at: 0 };
    let switch = match from.byte()? {
        TCP => return from.end().map(|()| Opening::Tcp),
        REQUEST => false,
        SWITCH => true,
        _ => return Err(HeadError::Kind),
    };
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.version = version(from.byte()?)?;
    parts.method = match from.byte()? {
        0 => Method::from_bytes(&from.text()?).map_err(|_| HeadError::Method)?,
        number => METHODS.get(usize::from(number) - 1).cloned().ok_or(HeadError::Method)?,
    };
    let (target, authority) = (from.text()?, from.text()?);
    let protocol = if switch { from.text()? } else { Bytes::new() };
    parts.headers = fields(&mut from, max_fields)?;
    from.end()?;
    let connect = parts.method == Method::CONNECT;
    if switch == (protocol.is_empty() && !connect) {
        return Err(HeadError::Kind);
    }
    if connect {
        if !target.is_empty() {
            return Err(HeadError::Target);
        }
        parts.uri = Uri::from(Authority::from_maybe_shared(authority).map_err(|_| HeadError::Target)?);
    } else {
        parts.uri = Uri::from(path_and_query(target)?);
        parts.headers.insert(HOST, value(authority)?);
    }
    if switch && !connect {
        parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(UPGRADE, value(protocol)?);
    }
    let parts = Box::new(parts);
    Ok(if switch { Opening::Switch(parts) } else { Opening::Request(parts) })
}

/// Reads the head of an answer.
pub fn answer(bytes: Bytes, max_fields: u16) -> Result<response::Parts, HeadError> {
    let mut from = Cursor { bytes, at: 0 };
    if from.byte()? != ANSWER {
        return Err(HeadError::Kind);
    }
    let (mut parts, ()) = http::Response::new(()).into_parts();
    let number = u16::from_be_bytes([from.byte()?, from.byte()?]);
    parts.status = StatusCode::from_u16(number).map_err(|_| HeadError::Kind)?;
    let protocol = match parts.status {
        StatusCode::SWITCHING_PROTOCOLS => Some(from.text()?),
        _ => None,
    };
    parts.headers = fields(&mut from, max_fields)?;
    from.end()?;
    if let Some(protocol) = protocol {
        if protocol.is_empty() {
            return Err(HeadError::Kind);
        }
        parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(UPGRADE, value(protocol)?);
    }
    Ok(parts)
}

/// Reads trailers.
pub fn trailers(bytes: Bytes, max_fields: u16) -> Result<HeaderMap, HeadError> {
    let mut from = Cursor { bytes, at: 0 };
    let found = fields(&mut from, max_fields)?;
    from.end()?;
    // How long a body is cannot be said after it (RFC 9110, section 6.5.1).
    if found.contains_key(CONTENT_LENGTH) { Err(HeadError::Forbidden) } else { Ok(found) }
}

/// How long the body must be, where a head says so.
pub fn content_length(headers: &HeaderMap) -> Result<Option<u64>, HeadError> {
    let Some(first) = headers.get(CONTENT_LENGTH) else { return Ok(None) };
    let digits = first.as_bytes();
    let one = headers.get_all(CONTENT_LENGTH).iter().nth(1).is_none();
    if !one || digits.is_empty() || digits.len() > 18 {
        return Err(HeadError::Ambiguous);
    }
    let number = digits
        .iter()
        .try_fold(0_u64, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u64::from(digit - b'0')));
    number.map(Some).ok_or(HeadError::Ambiguous)
}

fn host(request: Asked<'_>) -> Result<&[u8], HeadError> {
    if let Some(authority) = request.uri.authority() {
        return Ok(authority.as_str().as_bytes());
    }
    let mut hosts = request.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (first, None) => Ok(first.map(HeaderValue::as_bytes).unwrap_or_default()),
        _ => Err(HeadError::Ambiguous),
    }
}

fn path_and_query(target: Bytes) -> Result<PathAndQuery, HeadError> {
    let begins = target.first() == Some(&b'/') || &target[..] == b"*";
    // What follows a `#` would be cut off in silence.
    if !begins || target.contains(&b'#') {
        return Err(HeadError::Target);
    }
    PathAndQuery::from_maybe_shared(target).map_err(|_| HeadError::Target)
}

fn version_number(version: Version) -> Result<u8, HeadError> {
    Ok(match version {
        Version::HTTP_10 => 10,
        Version::HTTP_11 => 11,
        Version::HTTP_2 => 20,
        _ => return Err(HeadError::Kind),
    })
}

fn version(number: u8) -> Result<Version, HeadError> {
    Ok(match number {
        10 => Version::HTTP_10,
        11 => Version::HTTP_11,
        20 => Version::HTTP_2,
        _ => return Err(HeadError::Kind),
    })
}

fn is_trailers(value: &HeaderValue) -> bool {
    value.as_bytes().eq_ignore_ascii_case(b"trailers")
}

/// Names that say how a message is framed or concern one hop (RFC 9110, section 7.6.1); none of them is in the table.
fn is_forbidden(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection" | "host" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade"
    )
}

fn put_text(out: &mut BytesMut, text: &[u8]) -> Result<(), HeadError> {
    let length = text.len();
    if length > MAX_LENGTH {
        return Err(HeadError::TooLarge);
    }
    let group = |shift: usize| u8::try_from(length >> shift & 0x7f).unwrap_or_default();
    match length {
        0..0x80 => out.put_u8(group(0)),
        0x80..0x4000 => out.put_slice(&[group(7) | 0x80, group(0)]),
        _ => out.put_slice(&[group(14) | 0x80, group(7) | 0x80, group(0)]),
    }
    out.put_slice(text);
    Ok(())
}

fn value(bytes: Bytes) -> Result<HeaderValue, HeadError> {
    HeaderValue::from_maybe_shared(bytes).map_err(|_| HeadError::Value)
}

fn fields(from: &mut Cursor, max: u16) -> Result<HeaderMap, HeadError> {
    let count = u16::from_be_bytes([from.byte()?, from.byte()?]);
    if count > max {
        return Err(HeadError::TooMany);
    }
    let mut headers = HeaderMap::with_capacity(usize::from(count) + 2);
    for _ in 0..count {
        let name = match from.byte()? {
            0 => {
                let name = HeaderName::from_lowercase(&from.text()?).map_err(|_| HeadError::Name)?;
                if is_forbidden(&name) {
                    return Err(HeadError::Forbidden);
                }
                name
            }
            number => names::by_number(number).ok_or(HeadError::Name)?.clone(),
        };
        let value = value(from.text()?)?;
        if name == TE && !is_trailers(&value) {
            return Err(HeadError::Forbidden);
        }
        headers.append(name, value);
    }
    Ok(headers)
}

/// Reads through a head.
struct Cursor {
    bytes: Bytes,
    at: usize,
}

impl Cursor {
    fn byte(&mut self) -> Result<u8, HeadError> {
        let byte = self.bytes.get(self.at).copied().ok_or(HeadError::Length)?;
        self.at += 1;
        Ok(byte)
    }

    fn text(&mut self) -> Result<Bytes, HeadError> {
        let end = self.length()? + self.at;
        if end > self.bytes.len() {
            return Err(HeadError::Length);
        }
        let text = self.bytes.slice(self.at..end);
        self.at = end;
        Ok(text)
    }

    fn length(&mut self) -> Result<usize, HeadError> {
        let mut length = 0;
        for _ in 0..3 {
            let byte = self.byte()?;
            // A first group of zeros says nothing.
            if length == 0 && byte == 0x80 {
                return Err(HeadError::Long);
            }
            length = length << 7 | usize::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Ok(length);
            }
        }
        Err(HeadError::Long)
    }

    fn end(&self) -> Result<(), HeadError> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(HeadError::Length) }
    }
}

#[cfg(test)]
mod tests;
