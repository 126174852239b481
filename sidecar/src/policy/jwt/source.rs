//! Where a token is looked for: a header with a prefix, a cookie, a query parameter. A place that holds two tokens is
//! refused, since proxy and application might each read another one.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use weft_api::v1;

use crate::policy::ConfigError;
use crate::policy::pattern::header_name;

/// One place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The prefix is compared without regard to case (RFC 9110, section 11.1).
    Header {
        name: HeaderName,
        prefix: Box<str>,
    },
    Cookie(Box<str>),
    Query(Box<str>),
}

impl Source {
    /// `Authorization: Bearer …`
    pub(super) fn authorization() -> Self {
        Self::Header { name: header::AUTHORIZATION, prefix: "Bearer ".into() }
    }

    pub(super) fn new(config: &v1::TokenSource) -> Result<Self, ConfigError> {
        use v1::token_source::Source as Wire;
        let field = "authentication.jwt[].from[]";
        match &config.source {
            Some(Wire::Header(header)) => {
                let name = header_name("authentication.jwt[].from[].header", &header.name)?;
                Ok(Self::Header { name, prefix: header.prefix.as_str().into() })
            }
            Some(Wire::Cookie(name)) if !name.is_empty() => Ok(Self::Cookie(name.as_str().into())),
            Some(Wire::Query(name)) if !name.is_empty() => Ok(Self::Query(name.as_str().into())),
            _ => Err(ConfigError::invalid(field, "", "name a header, a cookie or a query parameter")),
        }
    }

    /// Whether this header is the place.
    pub(super) fn is_header(&self, header: &HeaderName) -> bool {
        matches!(self, Self::Header { name, .. } if name == header)
    }

    /// The token there.
    pub(super) fn find<'a>(
        &self,
        headers: &'a HeaderMap,
        query: Option<&'a str>,
    ) -> Result<Option<&'a str>, &'static str> {
        match self {
            Self::Header { name, prefix } => find_header(headers, name, prefix),
            Self::Cookie(name) => one(cookies(headers).filter_map(|pair| value_of(pair, name))),
            Self::Query(name) => {
                let pairs = query.unwrap_or_default().split('&');
                one(pairs.filter_map(|pair| value_of(pair.as_bytes(), name)))
            }
        }
    }

    /// Takes the token out of the headers.
    pub(super) fn strip_headers(&self, headers: &mut HeaderMap) {
        match self {
            Self::Header { name, prefix } => {
                // Other credentials in the same header are none of our business.
                let ours = |value: &HeaderValue| strip_prefix(value.as_bytes(), prefix).is_some();
                if headers.get_all(name).iter().any(ours) {
                    headers.remove(name);
                }
            }
            Self::Cookie(name) => strip_cookie(headers, name),
            Self::Query(_) => {}
        }
    }
}

/// The query without any of the tokens; none if there is no token in it.
pub(super) fn strip_query(sources: &[Source], query: Option<&str>) -> Option<String> {
    let is_token = |pair: &str| {
        sources.iter().any(|s| matches!(s, Source::Query(name) if value_of(pair.as_bytes(), name).is_some()))
    };
    let query = query.filter(|query| query.split('&').any(is_token))?;
    let mut rest = String::with_capacity(query.len());
    for pair in query.split('&').filter(|pair| !is_token(pair)) {
        rest.push_str(if rest.is_empty() { "" } else { "&" });
        rest.push_str(pair);
    }
    Some(rest)
}

fn find_header<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    prefix: &str,
) -> Result<Option<&'a str>, &'static str> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err("the token's header comes more than once");
    }
    match strip_prefix(value.as_bytes(), prefix) {
        Some(token) => text(token.trim_ascii()).map(Some),
        None => Ok(None),
    }
}

fn strip_prefix<'a>(value: &'a [u8], prefix: &str) -> Option<&'a [u8]> {
    let (start, token) = value.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix.as_bytes()).then_some(token)
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let values = headers.get_all(header::COOKIE).iter();
    values.flat_map(|value| value.as_bytes().split(|b| *b == b';')).map(<[u8]>::trim_ascii)
}

fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

fn one<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Result<Option<&'a str>, &'static str> {
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => text(value).map(Some),
        (Some(_), Some(_)) => Err("there is more than one token"),
    }
}

fn text(token: &[u8]) -> Result<&str, &'static str> {
    std::str::from_utf8(token).map_err(|_| "the token is no text")
}

fn strip_cookie(headers: &mut HeaderMap, name: &str) {
    if !cookies(headers).any(|pair| value_of(pair, name).is_some()) {
        return;
    }
    let kept: Vec<&[u8]> = cookies(headers).filter(|pair| value_of(pair, name).is_none()).collect();
    let kept = HeaderValue::from_bytes(&kept.join(&b"; "[..]));
    headers.remove(header::COOKIE);
    if let Ok(kept) = kept
        && !kept.is_empty()
    {
        headers.insert(header::COOKIE, kept);
    }
}
