//! Buckets at explicit instants, the values they are keyed by, the questions to Redis.

use std::time::Duration;

use proptest::prelude::*;
use v1::rate_limit_key::Key as Wire;

use super::*;
use crate::policy::fixture;
use crate::policy::jwt::Claims;

fn limit(requests: u32, per_ms: u64, burst: u32, key: Option<Wire>) -> v1::RateLimit {
    let key = key.map(|key| v1::RateLimitKey { key: Some(key) });
    v1::RateLimit { requests, per_ms, burst, key, name: "limit".into(), ..Default::default() }
}

fn window(requests: u32, per_ms: u64) -> v1::RateLimit {
    let algorithm = v1::RateLimitAlgorithm::SlidingWindow.into();
    v1::RateLimit { algorithm, ..limit(requests, per_ms, 0, None) }
}

fn limits(config: v1::RateLimit, now: Instant) -> RateLimits {
    RateLimits::new(&[config], None, now).unwrap()
}

fn cx() -> RequestCx {
    fixture::request("GET", "order", "/orders")
}

fn passed(limits: &RateLimits, now: Instant) -> usize {
    let (cx, headers) = (cx(), HeaderMap::new());
    (0..2_000).take_while(|_| limits.check(&cx, &headers, now).is_ok()).count()
}

#[test]
fn a_hundred_a_minute_means_a_hundred_at_once_and_then_one_every_600_ms() {
    let now = Instant::now();
    let limits = limits(limit(100, 60_000, 0, Some(Wire::ClientIp(true))), now);
    assert_eq!(passed(&limits, now), 100);
    let refused = limits.check(&cx(), &HeaderMap::new(), now).unwrap_err();
    assert_eq!((refused.reason, refused.retry_after_secs), (Reason::RateLimited, Some(1)));
    assert_eq!(refused.policy.as_deref(), Some("limit"));
    assert_eq!(passed(&limits, now + Duration::from_millis(599)), 0);
    assert_eq!(passed(&limits, now + Duration::from_millis(600)), 1);
    assert_eq!(passed(&limits, now + Duration::from_mins(5)), 100);
}

#[test]
fn burst_is_how_many_fit_in() {
    let now = Instant::now();
    let limits = limits(limit(100, 60_000, 20, None), now);
    assert_eq!(passed(&limits, now), 20);
    assert_eq!(passed(&limits, now + Duration::from_secs(3)), 5);
}

#[test]
fn retry_after_says_when_a_token_is_there() {
    let now = Instant::now();
    let limits = limits(limit(1, 60_000, 1, None), now);
    assert_eq!(passed(&limits, now), 1);
    let refused = limits.check(&cx(), &HeaderMap::new(), now + Duration::from_millis(1500)).unwrap_err();
    assert_eq!(refused.retry_after_secs, Some(59));
    assert!(limits.check(&cx(), &HeaderMap::new(), now + Duration::from_mins(1)).is_ok());
}

#[test]
fn each_value_of_the_key_has_its_own_bucket() {
    let now = Instant::now();
    let by_header = limits(limit(1, 60_000, 1, Some(Wire::Header("x-user".into()))), now);
    let check = |user: &str| by_header.check(&cx(), &fixture::headers(&[("x-user", user)]), now).is_ok();
    assert!(check("ada") && check("bob"));
    assert!(!check("ada") && !check("bob"));

    let by_claim = limits(limit(1, 60_000, 1, Some(Wire::Claim("sub".into()))), now);
    let check = |sub: serde_json::Value| {
        let mut cx = cx();
        cx.claims = Some(Arc::new(Claims { map: [("sub".to_owned(), sub)].into_iter().collect() }));
        by_claim.check(&cx, &HeaderMap::new(), now).is_ok()
    };
    assert!(check("1".into()) && check(2.into()));
    assert!(!check("1".into()) && !check(2.into()));

    let by_ip = limits(limit(1, 60_000, 1, Some(Wire::ClientIp(true))), now);
    let check = |ip: &str| {
        let mut cx = cx();
        cx.client_ip = ip.parse().unwrap();
        by_ip.check(&cx, &HeaderMap::new(), now).is_ok()
    };
    assert!(check("10.0.0.1") && check("10.0.0.2") && check("2001:db8::1"));
    assert!(!check("::ffff:10.0.0.1") && !check("2001:db8::ffff"), "one client, one bucket");
}

#[test]
fn leaving_out_the_key_is_no_way_around_the_limit() {
    let now = Instant::now();
    for key in [Wire::Header("x-user".into()), Wire::Claim("sub".into()), Wire::Identity(true)] {
        let limits = limits(limit(1, 60_000, 1, Some(key)), now);
        let mut cx = cx();
        cx.conn = Arc::new(fixture::connection(None));
        assert!(limits.check(&cx, &HeaderMap::new(), now).is_ok());
        assert!(limits.check(&cx, &HeaderMap::new(), now).is_err());
    }
}

#[test]
fn a_limit_counts_only_the_requests_it_is_for() {
    let now = Instant::now();
    let to = vec![v1::RequestMatch { methods: vec!["POST".into()], ..Default::default() }];
    let limits = limits(v1::RateLimit { to, ..limit(1, 60_000, 1, None) }, now);
    assert_eq!(passed(&limits, now), 2_000);
}

#[test]
fn buckets_survive_an_update_of_the_configuration() {
    let now = Instant::now();
    let old = limits(limit(1, 60_000, 1, None), now);
    assert_eq!(passed(&old, now), 1);
    let same = RateLimits::new(&[limit(1, 60_000, 1, None)], Some(&old), now).unwrap();
    assert_eq!(passed(&same, now), 0);
    let other = RateLimits::new(&[limit(2, 60_000, 2, None)], Some(&old), now).unwrap();
    assert_eq!(passed(&other, now), 2);
    let counted_otherwise = RateLimits::new(&[window(1, 60_000)], Some(&old), now).unwrap();
    assert_eq!(passed(&counted_otherwise, now), 1);
}

#[test]
fn more_keys_than_places_neither_grow_nor_block() {
    let now = Instant::now();
    let limits = limits(limit(1, 60_000, 1, Some(Wire::Header("x-user".into()))), now);
    let cx = cx();
    let ok = |n: u32| limits.check(&cx, &fixture::headers(&[("x-user", &n.to_string())]), now).is_ok();
    assert_eq!((0..30_000).filter(|n| ok(*n)).count(), 30_000);
}

#[test]
fn threads_together_get_no_more_than_the_bucket_holds() {
    let now = Instant::now();
    let key = v1::RateLimitKey { key: Some(Wire::ClientIp(true)) };
    let bucket = limit(1000, 60_000, 0, None);
    let windowed = window(1000, 60_000);
    let with_key = |limit: &v1::RateLimit| v1::RateLimit { key: Some(key.clone()), ..limit.clone() };
    for config in [with_key(&bucket), bucket, with_key(&windowed), windowed] {
        let limits = limits(config, now);
        let count = || passed(&limits, now);
        let total: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(total, 1000);
    }
}

#[test]
fn a_global_limit_asks_redis_and_reads_its_answer() {
    let now = Instant::now();
    let config =
        v1::RateLimit { global: true, ..limit(100, 60_000, 20, Some(Wire::Header("x-user".into()))) };
    let limits = limits(config, now);
    assert!(limits.has_global());
    assert!(limits.check(&cx(), &HeaderMap::new(), now).is_ok(), "nothing is decided locally");
    let checks = limits.global_checks(&cx(), &fixture::headers(&[("x-user", "ada")]));
    let [check] = &checks[..] else { panic!("one limit, one question") };
    assert_eq!((check.key(), check.args()), (&b"weft:bucket:limit:ada"[..], ("bucket", 600_000, 20)));
    assert_eq!(check.verdict([0, 7, 900]), Ok(None), "nobody asked to be told");
    assert_eq!(check.verdict([1500, 0, 60_000]).unwrap_err().retry_after_secs, Some(2));
    assert!(check.without_answer().is_err());
    let long = limits.global_checks(&cx(), &fixture::headers(&[("x-user", &"u".repeat(5000))]));
    assert!(long[0].key().len() < 200);
}

#[test]
fn a_global_window_asks_redis_for_a_window() {
    let config = v1::RateLimit { global: true, fail_open: true, ..window(100, 60_000) };
    let checks = limits(config, Instant::now()).global_checks(&cx(), &HeaderMap::new());
    let [check] = &checks[..] else { panic!("one limit, one question") };
    assert_eq!((check.key(), check.args()), (&b"weft:window:limit"[..], ("window", 60_000_000, 100)));
    assert!(check.without_answer().is_ok());
}

#[test]
fn a_window_holds_for_every_span_and_says_when_there_is_room() {
    let now = Instant::now();
    for key in [None, Some(Wire::ClientIp(true))] {
        let key = key.map(|key| v1::RateLimitKey { key: Some(key) });
        let limits = limits(v1::RateLimit { key, ..window(100, 60_000) }, now);
        assert_eq!(passed(&limits, now), 100);
        assert_eq!(passed(&limits, now + Duration::from_secs(59)), 0);
        assert_eq!(passed(&limits, now + Duration::from_secs(90)), 50);
        let refused = limits.check(&cx(), &HeaderMap::new(), now + Duration::from_secs(90)).unwrap_err();
        assert_eq!(refused.retry_after_secs, Some(1));
    }
}

#[test]
fn answers_tell_of_the_tightest_limit_that_wants_to_be_told_of() {
    let now = Instant::now();
    let all = |requests: u32| v1::RateLimit {
        headers: v1::LimitHeaders::All.into(),
        name: requests.to_string(),
        ..limit(requests, 60_000, 0, None)
    };
    let limits = RateLimits::new(&[all(60), all(10), limit(1000, 60_000, 0, None)], None, now).unwrap();
    let check = || limits.check(&cx(), &HeaderMap::new(), now);
    assert_eq!(check(), Ok(Some(Standing { limit: 10, remaining: 9, reset_secs: 6 })));
    (0..9).for_each(|_| drop(check()));
    let refused = check().unwrap_err();
    assert_eq!(refused.standing, Some(Standing { limit: 10, remaining: 0, reset_secs: 60 }));
    assert_eq!(refused.retry_after_secs, Some(6));
}

#[test]
fn a_limit_may_be_kept_from_all_answers() {
    let now = Instant::now();
    let headers = v1::LimitHeaders::None.into();
    let limits = limits(v1::RateLimit { headers, ..limit(1, 60_000, 0, None) }, now);
    let check = || limits.check(&cx(), &HeaderMap::new(), now);
    assert_eq!(check(), Ok(None));
    assert_eq!(check().unwrap_err().standing, None);
}

#[test]
fn a_limit_that_allows_nothing_is_refused() {
    let now = Instant::now();
    for (requests, per_ms) in [(0, 1000), (1, 0), (u32::MAX, 1)] {
        assert!(RateLimits::new(&[limit(requests, per_ms, 0, None)], None, now).is_err());
    }
}

proptest! {
    #[test]
    fn a_bucket_equals_a_counter_of_tokens(
        requests in 1u32..50,
        burst in 1u32..50,
        steps in prop::collection::vec(0u64..400, 1..80),
    ) {
        // One token per millisecond, so that the counter is exact in microseconds.
        let start = Instant::now();
        let limits = limits(limit(requests, u64::from(requests), burst, None), start);
        let (mut tokens, mut at) = (u64::from(burst) * 1000, 0);
        for step in steps {
            at += step * 10;
            tokens = (tokens + step * 10).min(u64::from(burst) * 1000);
            let expect = tokens >= 1000;
            tokens -= if expect { 1000 } else { 0 };
            let now = start + Duration::from_micros(at);
            prop_assert_eq!(limits.check(&cx(), &HeaderMap::new(), now).is_ok(), expect);
        }
    }
}
