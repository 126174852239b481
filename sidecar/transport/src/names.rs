//! The static table of field names (README, "Heads"): a name of it is one byte on the wire and a constant here. Its order is
//! part of the specification; new names need a new minor version.

use std::sync::LazyLock;

use http::HeaderName;
use http::header as h;

/// Index 1 is the first; 0 means that the name follows.
pub(crate) static NAMES: [HeaderName; 80] = [
    h::ACCEPT,
    h::ACCEPT_CHARSET,
    h::ACCEPT_ENCODING,
    h::ACCEPT_LANGUAGE,
    h::ACCEPT_RANGES,
    h::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    h::ACCESS_CONTROL_ALLOW_HEADERS,
    h::ACCESS_CONTROL_ALLOW_METHODS,
    h::ACCESS_CONTROL_ALLOW_ORIGIN,
    h::ACCESS_CONTROL_EXPOSE_HEADERS,
    h::ACCESS_CONTROL_MAX_AGE,
    h::ACCESS_CONTROL_REQUEST_HEADERS,
    h::ACCESS_CONTROL_REQUEST_METHOD,
    h::AGE,
    h::ALLOW,
    h::AUTHORIZATION,
    h::CACHE_CONTROL,
    h::CONTENT_DISPOSITION,
    h::CONTENT_ENCODING,
    h::CONTENT_LANGUAGE,
    h::CONTENT_LENGTH,
    h::CONTENT_LOCATION,
    h::CONTENT_RANGE,
    h::CONTENT_SECURITY_POLICY,
    h::CONTENT_TYPE,
    h::COOKIE,
    h::DATE,
    h::ETAG,
    h::EXPECT,
    h::EXPIRES,
    h::FORWARDED,
    h::FROM,
    h::IF_MATCH,
    h::IF_MODIFIED_SINCE,
    h::IF_NONE_MATCH,
    h::IF_RANGE,
    h::IF_UNMODIFIED_SINCE,
    h::LAST_MODIFIED,
    h::LINK,
    h::LOCATION,
    h::MAX_FORWARDS,
    h::ORIGIN,
    h::PRAGMA,
    h::RANGE,
    h::REFERER,
    h::REFERRER_POLICY,
    h::RETRY_AFTER,
    h::SEC_WEBSOCKET_ACCEPT,
    h::SEC_WEBSOCKET_EXTENSIONS,
    h::SEC_WEBSOCKET_KEY,
    h::SEC_WEBSOCKET_PROTOCOL,
    h::SEC_WEBSOCKET_VERSION,
    h::SERVER,
    h::SET_COOKIE,
    h::STRICT_TRANSPORT_SECURITY,
    h::TE,
    h::TRAILER,
    h::USER_AGENT,
    h::VARY,
    h::VIA,
    h::WWW_AUTHENTICATE,
    h::X_CONTENT_TYPE_OPTIONS,
    h::X_FRAME_OPTIONS,
    HeaderName::from_static("grpc-accept-encoding"),
    HeaderName::from_static("grpc-encoding"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("b3"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-weft-reason"),
    HeaderName::from_static("ratelimit-limit"),
    HeaderName::from_static("ratelimit-remaining"),
    HeaderName::from_static("ratelimit-reset"),
    HeaderName::from_static("proxy-status"),
];

const BUCKETS: usize = 512;

static INDEX: LazyLock<[u8; BUCKETS]> = LazyLock::new(|| {
    let mut index = [0; BUCKETS];
    for (number, name) in (1..).zip(&NAMES) {
        let mut at = bucket(name.as_str().as_bytes());
        while index.get(at).is_some_and(|&taken| taken != 0) {
            at = (at + 1) % BUCKETS;
        }
        if let Some(free) = index.get_mut(at) {
            *free = number;
        }
    }
    index
});

/// Where to look for a name: its length, its ends and its middle tell nearly all of the table apart.
fn bucket(name: &[u8]) -> usize {
    let byte = |at: usize| usize::from(name.get(at).copied().unwrap_or_default());
    let length = name.len();
    let sum = length * 7
        + byte(0) * 31
        + byte(length.wrapping_sub(1)) * 131
        + byte(length / 2) * 517
        + byte(length / 3) * 61;
    sum % BUCKETS
}

/// The byte for this name; none where it is not in the table.
pub(crate) fn number(name: &HeaderName) -> Option<u8> {
    let mut at = bucket(name.as_str().as_bytes());
    loop {
        let number = INDEX.get(at).copied().filter(|&number| number != 0)?;
        if by_number(number) == Some(name) {
            return Some(number);
        }
        at = (at + 1) % BUCKETS;
    }
}

/// The name of this byte.
pub(crate) fn by_number(number: u8) -> Option<&'static HeaderName> {
    NAMES.get(usize::from(number).wrapping_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_of_the_table_has_its_own_number() {
        for (at, name) in (1..).zip(&NAMES) {
            assert_eq!(number(name), Some(at), "{name}");
        }
        assert_eq!(number(&HeaderName::from_static("x-other")), None);
        assert_eq!((by_number(0), by_number(81)), (None, None));
    }

    #[test]
    fn the_table_is_the_one_of_the_specification() {
        let rows: Vec<&str> = NAMES.iter().map(HeaderName::as_str).collect();
        let readme = include_str!("../README.md");
        let table: Vec<&str> = readme
            .lines()
            .skip_while(|line| *line != "<!-- names -->")
            .take_while(|line| *line != "<!-- end of names -->")
            .filter(|line| line.starts_with("| "))
            .flat_map(|line| line.split('`').skip(1).step_by(2))
            .collect();
        assert_eq!(table, rows, "the table in README.md should hold these names in this order");
    }
}
