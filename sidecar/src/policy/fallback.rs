//! Stale answers: the last good answer to a GET, served while the breaker is open or nobody can be reached. Stands on the
//! outbound path around the attempts. One cache per proxy: 1 MiB per answer, 32 MiB in all, the oldest goes first.
//!
//! Only what any client may see is kept: no answer to a request with credentials unless it is marked `public`, none
//! that sets a cookie, none that forbids storing or serving it stale (RFC 9111, sections 3 and 4.2.4).

mod store;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use tokio::time::Instant;
use weft_api::names;

use self::store::{Entry, Store, Vary};
use crate::cx::RequestCx;

/// Largest answer that is kept.
const MAX_ANSWER: usize = 1024 * 1024;
/// Memory for all answers.
const MAX_TOTAL: usize = 32 * 1024 * 1024;
/// An answer younger than this is not replaced, so that a busy path does not copy every body.
const FRESH: Duration = Duration::from_secs(1);

/// The last good answers.
#[derive(Debug)]
pub struct Cache {
    store: Mutex<Store>,
}

/// What an answer is found by: destination, host, path and query of a GET.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    text: Arc<str>,
    /// Whether the request carried credentials, so that only a `public` answer is shared.
    credentials: bool,
}

/// An answer on its way to the client, being copied.
#[derive(Debug)]
pub struct Recording {
    cache: Arc<Cache>,
    key: Key,
    status: StatusCode,
    headers: HeaderMap,
    vary: Vary,
    body: BytesMut,
}

/// An answer from the cache, with `age` and `x-weft-stale` among its headers.
#[derive(Clone, Debug)]
pub struct Stale {
    /// As received.
    pub status: StatusCode,
    /// As received, without those of one hop or one request.
    pub headers: HeaderMap,
    /// As received.
    pub body: Bytes,
}

impl Key {
    /// The key of a request; none if its answers are not kept.
    pub fn new(cx: &RequestCx, destination: &str, query: Option<&str>, headers: &HeaderMap) -> Option<Self> {
        if cx.method != Method::GET
            || headers.contains_key(header::RANGE)
            || has_directive(headers, "no-store")
        {
            return None;
        }
        let credentials = cx.claims.is_some()
            || headers.contains_key(header::AUTHORIZATION)
            || headers.contains_key(header::COOKIE);
        let text = [destination, " ", &cx.host, cx.path.as_str(), "?", query.unwrap_or_default()].concat();
        Some(Self { text: text.into(), credentials })
    }
}

impl Default for Cache {
    fn default() -> Self {
        Self { store: Mutex::new(Store::new(MAX_TOTAL)) }
    }
}

impl Cache {
    /// Begins to copy an answer, if it may be kept and the one that is kept is not fresh.
    pub fn record(
        self: &Arc<Self>,
        key: &Key,
        request: &HeaderMap,
        response: &http::response::Parts,
        now: Instant,
    ) -> Option<Recording> {
        if !may_keep(key, response) {
            return None;
        }
        let vary = vary(request, &response.headers)?;
        if self.with(|store| store.age(&key.text, now)).is_some_and(|age| age < FRESH) {
            return None;
        }
        Some(Recording {
            cache: Arc::clone(self),
            key: key.clone(),
            status: response.status,
            headers: kept_headers(&response.headers),
            vary,
            body: BytesMut::new(),
        })
    }

    /// The last good answer, if it is no older than `stale` and fits what it varies by.
    pub fn get(&self, key: &Key, request: &HeaderMap, stale: Duration, now: Instant) -> Option<Stale> {
        let (entry, age) = self.with(|store| store.get(&key.text, now))?;
        let fits = entry.vary.iter().all(|(name, value)| request.get(name) == value.as_ref());
        if age > stale || !fits || (key.credentials && !entry.public) {
            return None;
        }
        let mut headers = entry.headers.clone();
        headers.insert(header::AGE, HeaderValue::from(age.as_secs()));
        headers.insert(names::HEADER_STALE, HeaderValue::from_static("true"));
        Some(Stale { status: entry.status, headers, body: entry.body.clone() })
    }

    fn with<T>(&self, then: impl FnOnce(&mut Store) -> T) -> T {
        // The store's books are kept by methods that cannot panic half way.
        then(&mut self.store.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Recording {
    /// Copies a piece of the body. False: the answer is too large, forget the recording.
    #[must_use]
    pub fn push(&mut self, piece: &[u8]) -> bool {
        if self.body.len() + piece.len() > MAX_ANSWER {
            return false;
        }
        self.body.extend_from_slice(piece);
        true
    }

    /// Keeps the answer: its body has ended well. A recording that is dropped instead leaves the last one in place.
    pub fn finish(self, now: Instant) {
        let public = has_directive(&self.headers, "public");
        let Self { cache, key, status, headers, vary, body } = self;
        let entry = Entry { status, headers, vary, body: body.freeze(), public, stored: now };
        cache.with(|store| store.put(key.text, entry));
    }
}

fn may_keep(key: &Key, response: &http::response::Parts) -> bool {
    let headers = &response.headers;
    let forbidden = ["no-store", "private", "no-cache", "must-revalidate"];
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    response.status == StatusCode::OK
        && !headers.contains_key(header::SET_COOKIE)
        && !forbidden.iter().any(|directive| has_directive(headers, directive))
        && (!key.credentials || has_directive(headers, "public"))
        && length.unwrap_or(0usize) <= MAX_ANSWER
}

/// The request's values of what the answer varies by; none if it varies by everything.
fn vary(request: &HeaderMap, response: &HeaderMap) -> Option<Vary> {
    let lists = response.get_all(header::VARY).iter();
    let names = lists.flat_map(|list| list.as_bytes().split(|b| *b == b',')).map(<[u8]>::trim_ascii);
    let pair = |name: &[u8]| {
        // `*` is a legal header name, but here it means everything.
        let name = HeaderName::from_bytes(name).ok().filter(|name| name.as_str() != "*")?;
        let value = request.get(&name).cloned();
        Some((name, value))
    };
    names.filter(|name| !name.is_empty()).map(pair).collect()
}

fn has_directive(headers: &HeaderMap, directive: &str) -> bool {
    let lists = headers.get_all(header::CACHE_CONTROL).iter();
    let mut all = lists.flat_map(|list| list.as_bytes().split(|b| *b == b',')).map(<[u8]>::trim_ascii);
    all.any(|item| {
        item.split(|b| *b == b'=').next().is_some_and(|n| n.eq_ignore_ascii_case(directive.as_bytes()))
    })
}

/// Without what belongs to one connection or one request.
fn kept_headers(headers: &HeaderMap) -> HeaderMap {
    let dropped = |name: &HeaderName| {
        [header::CONNECTION, header::TRANSFER_ENCODING, header::TRAILER, header::UPGRADE, header::AGE]
            .contains(name)
            || *name == names::HEADER_REQUEST_ID
            || ["keep-alive", "proxy-connection", "traceparent", "tracestate"].contains(&name.as_str())
            || name.as_str().starts_with("x-weft-")
    };
    let kept = headers.iter().filter(|(name, _)| !dropped(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests;
