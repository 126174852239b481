//! What is kept, for whom, and for how long.

use super::*;
use crate::policy::fixture;

fn answer(status: u16, headers: &[(&str, &str)]) -> http::response::Parts {
    let mut response = http::Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    *response.headers_mut() = fixture::headers(headers);
    response.into_parts().0
}

fn key(request: &HeaderMap) -> Option<Key> {
    Key::new(&fixture::request("GET", "product", "/products/1"), "shop/product:http", Some("full=1"), request)
}

/// Sends a request and its answer through the cache, then asks with a second request ten seconds later.
fn kept(request: &[(&str, &str)], status: u16, response: &[(&str, &str)], later: &[(&str, &str)]) -> bool {
    let cache = Arc::new(Cache::default());
    let now = Instant::now();
    let (first, second) = (fixture::headers(request), fixture::headers(later));
    let recording = key(&first).and_then(|key| cache.record(&key, &first, &answer(status, response), now));
    if let Some(mut recording) = recording {
        assert!(recording.push(b"body"));
        recording.finish(now);
    }
    let stale = key(&second)
        .and_then(|key| cache.get(&key, &second, Duration::from_mins(10), now + Duration::from_secs(10)));
    stale.is_some_and(|stale| stale.body == "body")
}

#[test]
fn a_good_answer_is_served_later_with_its_age() {
    let cache = Arc::new(Cache::default());
    let now = Instant::now();
    let request = HeaderMap::new();
    let key = key(&request).unwrap();
    let headers =
        [("content-type", "text/plain"), ("x-request-id", "1"), ("connection", "close"), ("x-weft-a", "b")];
    let mut recording = cache.record(&key, &request, &answer(200, &headers), now).unwrap();
    assert!(recording.push(b"la") && recording.push(b"mp"));
    recording.finish(now);
    let stale =
        cache.get(&key, &request, Duration::from_mins(10), now + Duration::from_millis(42_500)).unwrap();
    assert_eq!((stale.status, &stale.body[..]), (StatusCode::OK, &b"lamp"[..]));
    let expect = [("content-type", "text/plain"), ("age", "42"), ("x-weft-stale", "true")];
    assert_eq!(stale.headers, fixture::headers(&expect));
}

#[test]
fn an_answer_that_is_too_old_is_not_served() {
    let cache = Arc::new(Cache::default());
    let now = Instant::now();
    let request = HeaderMap::new();
    let key = key(&request).unwrap();
    cache.record(&key, &request, &answer(200, &[]), now).unwrap().finish(now);
    let stale = Duration::from_mins(10);
    assert!(cache.get(&key, &request, stale, now + stale).is_some());
    assert!(cache.get(&key, &request, stale, now + stale + Duration::from_millis(1)).is_none());
}

#[test]
fn only_answers_that_anybody_may_see_are_kept() {
    assert!(kept(&[], 200, &[], &[]));
    assert!(!kept(&[], 404, &[], &[]));
    assert!(!kept(&[], 206, &[], &[]));
    for forbidden in ["no-store", "private", "no-cache", "max-age=0, Must-Revalidate", "private=\"x\""] {
        assert!(!kept(&[], 200, &[("cache-control", forbidden)], &[]), "{forbidden}");
    }
    assert!(!kept(&[], 200, &[("set-cookie", "a=b")], &[]));
    assert!(!kept(&[("cache-control", "no-store")], 200, &[], &[]));
    assert!(!kept(&[("range", "bytes=0-1")], 200, &[], &[]));
}

#[test]
fn answers_to_credentials_are_kept_and_served_only_if_public() {
    for credentials in [("authorization", "Bearer x"), ("cookie", "session=1")] {
        assert!(!kept(&[credentials], 200, &[], &[credentials]));
        assert!(!kept(&[], 200, &[], &[credentials]));
        assert!(kept(&[credentials], 200, &[("cache-control", "public")], &[credentials]));
        assert!(kept(&[credentials], 200, &[("cache-control", "public")], &[]));
    }
}

#[test]
fn an_answer_fits_only_requests_like_the_first() {
    let vary = [("vary", "Accept, accept-language")];
    assert!(kept(&[("accept", "a")], 200, &vary, &[("accept", "a")]));
    assert!(!kept(&[("accept", "a")], 200, &vary, &[("accept", "b")]));
    assert!(!kept(&[("accept", "a")], 200, &vary, &[("accept", "a"), ("accept-language", "de")]));
    assert!(!kept(&[], 200, &[("vary", "*")], &[]));
}

#[test]
fn other_requests_have_other_keys() {
    let none = HeaderMap::new();
    let key = |method: &str, path: &str, destination: &str, query: Option<&str>| {
        Key::new(&fixture::request(method, "product", path), destination, query, &none)
    };
    let first = key("GET", "/a", "shop/product:http", None);
    assert!(first.is_some());
    assert!(key("POST", "/a", "shop/product:http", None).is_none());
    for other in [
        key("GET", "/b", "shop/product:http", None),
        key("GET", "/a", "shop/product:grpc", None),
        key("GET", "/a", "shop/product:http", Some("q")),
    ] {
        assert_ne!(first, other);
    }
}

#[test]
fn an_answer_that_is_too_large_is_given_up() {
    let cache = Arc::new(Cache::default());
    let now = Instant::now();
    let request = HeaderMap::new();
    let key = key(&request).unwrap();
    let mut recording = cache.record(&key, &request, &answer(200, &[]), now).unwrap();
    assert!(recording.push(&vec![0; MAX_ANSWER]));
    assert!(!recording.push(&[0]));
    assert!(cache.record(&key, &request, &answer(200, &[("content-length", "1048577")]), now).is_none());
}

#[test]
fn a_busy_path_is_copied_once_a_second_and_a_broken_answer_replaces_nothing() {
    let cache = Arc::new(Cache::default());
    let now = Instant::now();
    let request = HeaderMap::new();
    let key = key(&request).unwrap();
    let mut first = cache.record(&key, &request, &answer(200, &[]), now).unwrap();
    assert!(first.push(b"good"));
    first.finish(now);
    assert!(cache.record(&key, &request, &answer(200, &[]), now + Duration::from_millis(999)).is_none());
    let mut broken = cache.record(&key, &request, &answer(200, &[]), now + FRESH).unwrap();
    assert!(broken.push(b"half"));
    drop(broken);
    assert_eq!(cache.get(&key, &request, FRESH * 9, now + FRESH).unwrap().body, "good");
}
