//! A head's bytes as `http` types that share them. The bytes are whole and their lines end in CRLF, since `scan` has seen
//! them; what is in the lines is checked here.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri, Version};

use super::MAX_HEADERS;
use crate::framing::{Fields, Framing};
use crate::{Config, Refusal};

/// Header lines that are added on the way, so that the map need not grow.
const ADDED: usize = 6;

/// The head of a request.
#[derive(Debug)]
pub struct RequestHead {
    /// Method.
    pub method: Method,
    /// Target as it came: origin-form, absolute-form, authority-form of CONNECT, or `*`.
    pub uri: Uri,
    /// HTTP/1.0 or 1.1.
    pub version: Version,
    /// Header lines.
    pub headers: HeaderMap,
    /// How its body is delimited.
    pub framing: Framing,
    /// Whether the connection may be used further.
    pub persists: bool,
    /// Whether the client waits for 100 before it sends the body.
    pub expects: bool,
    /// Whether another protocol is offered, or a tunnel asked for.
    pub switches: bool,
}

/// The head of an answer.
#[derive(Debug)]
pub struct AnswerHead {
    /// Status.
    pub status: StatusCode,
    /// HTTP/1.0 or 1.1.
    pub version: Version,
    /// Header lines.
    pub headers: HeaderMap,
    /// How its body is delimited.
    pub framing: Framing,
    /// Whether the connection may be used further.
    pub persists: bool,
}

type Slots<'b> = [MaybeUninit<httparse::Header<'b>>; MAX_HEADERS];

/// Parses the whole head of a request.
pub fn parse_request(head: &Bytes, config: &Config) -> Result<RequestHead, Refusal> {
    let mut slots: Slots<'_> = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut []);
    let slots = slots.get_mut(..config.max_headers.min(MAX_HEADERS)).unwrap_or_default();
    whole(parsed.parse_with_uninit_headers(head, slots), head)?;
    let version = version(parsed.version)?;
    let method = Method::from_bytes(parsed.method.unwrap_or_default().as_bytes())
        .map_err(|_| Refusal::Malformed("bad method"))?;
    let target = parsed.path.unwrap_or_default();
    let uri = Uri::from_maybe_shared(head.slice_ref(target.as_bytes()))
        .map_err(|_| Refusal::Malformed("bad target"))?;
    check_target(&method, &uri, target)?;
    let (headers, fields) = fields(head, parsed.headers)?;
    Ok(RequestHead {
        framing: fields.of_request(&method, version)?,
        persists: fields.persists(version),
        expects: fields.expects(version),
        switches: method == Method::CONNECT || fields.upgrades(version),
        method,
        uri,
        version,
        headers,
    })
}

/// Parses the whole head of an answer to a request with this method.
pub fn parse_answer(head: &Bytes, method: &Method, config: &Config) -> Result<AnswerHead, Refusal> {
    let mut slots: Slots<'_> = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let slots = slots.get_mut(..config.max_headers.min(MAX_HEADERS)).unwrap_or_default();
    let result =
        httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, head, slots);
    whole(result, head)?;
    let version = version(parsed.version)?;
    let status = StatusCode::from_u16(parsed.code.unwrap_or_default())
        .map_err(|_| Refusal::Malformed("bad status"))?;
    let (headers, fields) = fields(head, parsed.headers)?;
    Ok(AnswerHead {
        framing: fields.of_answer(method, status, version)?,
        persists: fields.persists(version),
        status,
        version,
        headers,
    })
}

/// The parser must end where the scanner said that the head does: else they read it differently.
fn whole(parsed: httparse::Result<usize>, head: &Bytes) -> Result<(), Refusal> {
    match parsed {
        Ok(httparse::Status::Complete(length)) if length == head.len() => Ok(()),
        Ok(_) => Err(Refusal::Malformed("bad line end")),
        Err(httparse::Error::TooManyHeaders) => Err(Refusal::TooManyHeaders),
        Err(httparse::Error::HeaderName) => Err(Refusal::Malformed("bad header name")),
        Err(httparse::Error::HeaderValue) => Err(Refusal::Malformed("bad header value")),
        Err(httparse::Error::Version) => Err(Refusal::Malformed("bad version")),
        Err(_) => Err(Refusal::Malformed("bad first line")),
    }
}

fn version(minor: Option<u8>) -> Result<Version, Refusal> {
    match minor {
        Some(1) => Ok(Version::HTTP_11),
        Some(0) => Ok(Version::HTTP_10),
        _ => Err(Refusal::Malformed("bad version")),
    }
}

/// Which form of target a method takes (RFC 9112, section 3.2).
fn check_target(method: &Method, uri: &Uri, target: &str) -> Result<(), Refusal> {
    let authority = uri.scheme().is_none() && uri.authority().is_some();
    let fits = match target.as_bytes() {
        _ if *method == Method::CONNECT => authority && uri.port().is_some(),
        [b'*'] => *method == Method::OPTIONS,
        [b'/', ..] => true,
        _ => uri.scheme().is_some() && uri.authority().is_some(),
    };
    // A user in front of the host is deprecated and a way to deceive (RFC 9110, section 4.2.4).
    let user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    if fits && !user { Ok(()) } else { Err(Refusal::Malformed("bad form of target")) }
}

fn fields(head: &Bytes, lines: &[httparse::Header<'_>]) -> Result<(HeaderMap, Fields), Refusal> {
    let mut headers = HeaderMap::with_capacity(lines.len() + ADDED);
    let mut fields = Fields::default();
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes())
            .map_err(|_| Refusal::Malformed("bad header name"))?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(line.value))
            .map_err(|_| Refusal::Malformed("bad header value"))?;
        fields.see(&name, &value)?;
        headers.try_append(name, value).map_err(|_| Refusal::TooManyHeaders)?;
    }
    Ok((headers, fields))
}
