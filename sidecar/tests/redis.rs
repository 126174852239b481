//! Global rate limits against a real Redis on a socket of its own. Skipped aloud where `redis-server` is not installed.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};
use weft_api::v1;
use weft_sidecar::policy::rate_limit::Limit;
use weft_sidecar::policy::rate_limit::global::GlobalCheck;
use weft_sidecar::rate_limit_redis::GlobalLimits;
use weft_sidecar::reject::Reason;
use weft_sidecar::telemetry::metrics::Metrics;

const DEADLINE: Duration = Duration::from_secs(10);

struct Redis {
    dir: TempDir,
    url: String,
    process: Child,
}

impl Redis {
    /// None where Redis is not installed.
    async fn start() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("redis+unix://{}", dir.path().join("redis.sock").display());
        let process = spawn(&dir)?;
        let redis = Self { dir, url, process };
        redis.ready().await;
        Some(redis)
    }

    async fn ready(&self) {
        let client = redis::Client::open(self.url.as_str()).unwrap();
        let answers = async || {
            let mut connection = client.get_multiplexed_async_connection().await?;
            redis::cmd("PING").exec_async(&mut connection).await
        };
        let ping = async {
            while answers().await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(DEADLINE, ping).await.expect("Redis does not start");
    }

    async fn stop(&mut self) {
        self.process.kill().await.unwrap();
    }

    async fn start_again(&mut self) {
        self.process = spawn(&self.dir).unwrap();
        self.ready().await;
    }
}

fn spawn(dir: &TempDir) -> Option<Child> {
    Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--unixsocket", "redis.sock"])
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .ok()
}

/// One limit, of requests an hour.
fn limit(key: &str, config: v1::RateLimit) -> GlobalCheck {
    let config = v1::RateLimit { per_ms: 3_600_000, global: true, name: "shop/order/0".into(), ..config };
    GlobalCheck::new(&Arc::new(Limit::new(&config).unwrap()), Some(key.as_bytes()))
}

/// A bucket of this many tokens, of which one comes back in an hour.
fn check(key: &str, capacity: u32, fail_open: bool) -> GlobalCheck {
    limit(key, v1::RateLimit { requests: 1, burst: capacity, fail_open, ..Default::default() })
}

/// A window of this many requests.
fn window(key: &str, requests: u32) -> GlobalCheck {
    let algorithm = v1::RateLimitAlgorithm::SlidingWindow.into();
    limit(
        key,
        v1::RateLimit { requests, algorithm, headers: v1::LimitHeaders::All.into(), ..Default::default() },
    )
}

fn counted(metrics: &Metrics, result: &str) -> bool {
    metrics.encode(0).contains(&format!("weft_global_rate_limit_total{{result=\"{result}\""))
}

/// Asks until Redis is heard again, for limits that fail open.
async fn until_counted(limits: &GlobalLimits, url: &str, metrics: &Metrics) {
    let heard = async {
        while !counted(metrics, "allowed") {
            assert!(limits.check(Some(url), &[check("probe", 1000, true)], metrics).await.is_ok());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(DEADLINE, heard).await.expect("Redis is not heard again");
}

#[tokio::test]
async fn tokens_are_shared_by_all_proxies_and_outages_are_survived() {
    let Some(mut redis) = Redis::start().await else {
        eprintln!("SKIPPED: redis-server is not installed");
        return;
    };
    let metrics = Metrics::new("shop/order");
    let (one, other) = (GlobalLimits::default(), GlobalLimits::default());
    let url = Some(redis.url.as_str());
    until_counted(&one, &redis.url, &metrics).await;
    until_counted(&other, &redis.url, &Metrics::new("shop/order")).await;

    let two = [check("client", 2, false)];
    assert!(one.check(url, &two, &metrics).await.is_ok());
    assert!(other.check(url, &two, &metrics).await.is_ok());
    let refused = one.check(url, &two, &metrics).await.unwrap_err();
    assert_eq!((refused.reason, refused.policy.as_deref()), (Reason::RateLimited, Some("shop/order/0")));
    assert!(refused.retry_after_secs.is_some_and(|seconds| seconds > 3000), "{refused:?}");
    assert!(counted(&metrics, "limited"));

    let several = [check("a", 1, false), check("client", 2, false)];
    assert_eq!(other.check(url, &several, &metrics).await.unwrap_err().reason, Reason::RateLimited);

    redis.stop().await;
    let url = Some(redis.url.as_str());
    assert!(one.check(url, &[check("b", 1, true)], &metrics).await.is_ok());
    assert_eq!(one.check(url, &two, &metrics).await.unwrap_err().reason, Reason::RateLimited);
    assert!(counted(&metrics, "failed-open") && counted(&metrics, "failed-closed"));

    redis.start_again().await;
    let fresh = Metrics::new("shop/order");
    until_counted(&one, &redis.url, &fresh).await;
}

#[tokio::test]
async fn a_window_is_exact_and_what_one_limit_refuses_no_limit_counts() {
    let Some(redis) = Redis::start().await else {
        eprintln!("SKIPPED: redis-server is not installed");
        return;
    };
    let metrics = Metrics::new("shop/order");
    let (limits, url) = (GlobalLimits::default(), Some(redis.url.as_str()));
    until_counted(&limits, &redis.url, &metrics).await;

    let both = [window("client", 3), check("client", 2, false)];
    for left in [2, 1] {
        let standing = limits.check(url, &both, &metrics).await.unwrap().unwrap();
        assert_eq!((standing.limit, standing.remaining, standing.reset_secs), (3, left, 3600));
    }
    assert!(limits.check(url, &both, &metrics).await.is_err(), "the bucket is empty");
    let standing = limits.check(url, &both[..1], &metrics).await.unwrap().unwrap();
    assert_eq!(standing.remaining, 0, "the window has not counted the refusal");
    let refused = limits.check(url, &both[..1], &metrics).await.unwrap_err();
    assert!(refused.retry_after_secs.is_some_and(|seconds| seconds > 3590), "{refused:?}");
    assert_eq!(refused.standing.map(|standing| standing.remaining), Some(0));
}

#[tokio::test]
async fn a_window_forgets_each_request_when_its_time_has_passed() {
    let Some(redis) = Redis::start().await else {
        eprintln!("SKIPPED: redis-server is not installed");
        return;
    };
    let metrics = Metrics::new("shop/order");
    let (limits, url) = (GlobalLimits::default(), Some(redis.url.as_str()));
    until_counted(&limits, &redis.url, &metrics).await;
    let algorithm = v1::RateLimitAlgorithm::SlidingWindow.into();
    let config = v1::RateLimit { requests: 1, per_ms: 100, algorithm, ..Default::default() };
    let short = [GlobalCheck::new(&Arc::new(Limit::new(&config).unwrap()), None)];
    let first = Instant::now();
    limits.check(url, &short, &metrics).await.unwrap();
    let again = async { while limits.check(url, &short, &metrics).await.is_err() {} };
    timeout(DEADLINE, again).await.expect("the window never opens again");
    assert!(first.elapsed() > Duration::from_millis(90), "{:?}", first.elapsed());
}

#[tokio::test]
async fn a_mesh_without_redis_leaves_it_to_each_limit() {
    let (limits, metrics) = (GlobalLimits::default(), Metrics::new("shop/order"));
    assert!(limits.check(None, &[check("a", 1, true)], &metrics).await.is_ok());
    assert!(limits.check(None, &[check("a", 1, false)], &metrics).await.is_err());
}

#[tokio::test]
async fn an_address_that_does_not_answer_costs_no_more_than_the_budget() {
    // Accepts and never answers.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", silent.local_addr().unwrap());
    let (limits, metrics) = (GlobalLimits::default(), Metrics::new("shop/order"));
    let open = [check("a", 1, true)];
    let asked = limits.check(Some(&url), &open, &metrics);
    assert!(timeout(Duration::from_secs(2), asked).await.expect("waits too long").is_ok());
    assert!(counted(&metrics, "failed-open"));
}
