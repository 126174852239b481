//! Writes heads into a buffer, name by name, without format machinery. Framing is written by what the body is and not by
//! what the headers say about it.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use http::{Method, StatusCode, Uri, Version};

use crate::framing::{Framing, has_body};

/// What is written of a request.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Method.
    pub method: &'a Method,
    /// Target: with scheme and authority absolute-form, else origin-form; authority-form for CONNECT.
    pub uri: &'a Uri,
    /// Header lines.
    pub headers: &'a HeaderMap,
    /// The protocol to switch to, in place of `Connection` and `Upgrade` among the headers.
    pub upgrade: Option<&'a HeaderValue>,
}

/// Writes the head of a request whose body is framed so.
pub fn print_request(out: &mut Vec<u8>, asked: Asked<'_>, framing: Framing) {
    out.extend_from_slice(asked.method.as_str().as_bytes());
    out.push(b' ');
    print_target(out, asked.method, asked.uri);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(protocol) = asked.upgrade {
        out.extend_from_slice(b"connection: upgrade\r\n");
        print_line(out, &UPGRADE, protocol);
    }
    for (name, value) in asked.headers {
        let replaced = asked.upgrade.is_some() && (*name == CONNECTION || *name == UPGRADE);
        if !replaced && !is_framing(name) {
            print_line(out, name, value);
        }
    }
    match framing {
        // Only these methods are expected to have a body (RFC 9110, section 8.6).
        Framing::Length(0) if !matches!(*asked.method, Method::POST | Method::PUT | Method::PATCH) => {}
        Framing::Length(length) => print_length(out, length),
        Framing::Chunked | Framing::UntilClose => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    out.extend_from_slice(b"\r\n");
}

/// What is written of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// Status.
    pub status: StatusCode,
    /// Header lines.
    pub headers: &'a HeaderMap,
    /// Method of the request it answers.
    pub method: &'a Method,
    /// Version the client speaks.
    pub version: Version,
    /// Whether the connection stays open afterwards.
    pub persists: bool,
}

/// Writes the head of an answer whose body is framed so.
pub fn print_answer(out: &mut Vec<u8>, answer: Answered<'_>, framing: Framing) {
    print_status(out, answer.status);
    let has_body = has_body(answer.method, answer.status);
    // Without a body the length is that of the one there would be (RFC 9110, section 8.6).
    let tells_length =
        !has_body && (answer.status == StatusCode::NOT_MODIFIED || *answer.method == Method::HEAD);
    let mut told = false;
    for (name, value) in answer.headers {
        let is_length = tells_length && !told && *name == CONTENT_LENGTH;
        if is_length || !is_framing(name) {
            told |= is_length;
            print_line(out, name, value);
        }
    }
    match framing {
        Framing::Length(length) if has_body => print_length(out, length),
        Framing::Length(length) if *answer.method == Method::HEAD && tells_length && !told && length > 0 => {
            print_length(out, length);
        }
        Framing::Chunked if has_body => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::Length(_) | Framing::Chunked | Framing::UntilClose => {}
    }
    let says_close = || answer.headers.get_all(CONNECTION).iter().any(is_close);
    match (answer.persists, answer.version) {
        (true, Version::HTTP_10) => out.extend_from_slice(b"connection: keep-alive\r\n"),
        (false, _) if !says_close() => out.extend_from_slice(b"connection: close\r\n"),
        _ => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes an answer before the final one.
pub fn print_interim(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) {
    print_status(out, status);
    for (name, value) in headers {
        if !is_framing(name) && *name != CONNECTION {
            print_line(out, name, value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether a `Connection` header ends the connection.
pub fn is_close(value: &HeaderValue) -> bool {
    value
        .as_bytes()
        .split(|&byte| byte == b',')
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"close"))
}

/// Writes one line.
pub fn print_line(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn print_status(out: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn print_target(out: &mut Vec<u8>, method: &Method, uri: &Uri) {
    match (uri.authority(), uri.scheme()) {
        (Some(authority), _) if *method == Method::CONNECT => {
            return out.extend_from_slice(authority.as_str().as_bytes());
        }
        (Some(authority), Some(scheme)) => {
            out.extend_from_slice(scheme.as_str().as_bytes());
            out.extend_from_slice(b"://");
            out.extend_from_slice(authority.as_str().as_bytes());
        }
        _ => {}
    }
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    out.extend_from_slice(target.as_bytes());
}

fn print_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"content-length: ");
    print_decimal(out, length);
    out.extend_from_slice(b"\r\n");
}

fn print_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut at = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        at -= 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

fn is_framing(name: &HeaderName) -> bool {
    match name.as_str().len() {
        14 => *name == CONTENT_LENGTH,
        17 => *name == TRANSFER_ENCODING,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_they_are() {
        for number in [0, 1, 9, 10, 1024, u64::MAX] {
            let mut out = Vec::new();
            print_decimal(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }

    fn answer(status: u16, method: &Method, persists: bool, headers: &HeaderMap, framing: Framing) -> String {
        let mut out = Vec::new();
        let status = StatusCode::from_u16(status).unwrap();
        let answer = Answered { status, headers, method, version: Version::HTTP_11, persists };
        print_answer(&mut out, answer, framing);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn framing_is_what_the_body_is() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_LENGTH, 7.into());
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("gzip"));
        let get = &Method::GET;
        let length = answer(200, get, true, &headers, Framing::Length(5));
        assert_eq!(length, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
        let chunked = answer(404, get, true, &headers, Framing::Chunked);
        assert_eq!(chunked, "HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n");
        let none = answer(204, get, true, &headers, Framing::Length(0));
        assert_eq!(none, "HTTP/1.1 204 No Content\r\n\r\n");
        let head = answer(200, &Method::HEAD, true, &headers, Framing::Length(0));
        assert_eq!(head, "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n");
        let closed = answer(200, get, false, &headers, Framing::UntilClose);
        assert_eq!(closed, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        let closed = answer(200, get, false, &headers, Framing::Length(0));
        assert_eq!(closed, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    }
}
