//! Questions and answers over a real Redis: who answers, who is late, and when one stops asking.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use http::{HeaderMap, HeaderValue};
use redis::cmd;
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::Instant};

use super::{Answer, Bus, BusError, Outage, Policy, Question, RedisBus, Responder, STEADY};
use crate::{
    cx::Cx,
    errors::{Kind, Problem},
    metrics::Metrics,
    redis::Redis,
    settings,
    testing::{RedisServer, eventually, redis},
};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);

/// Answers with its name, or as it was asked to.
#[derive(Clone)]
struct Clerk {
    name: &'static str,
    asked: Arc<AtomicUsize>,
}

impl Clerk {
    fn new(name: &'static str) -> Self {
        Self { name, asked: Arc::default() }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Answer for Clerk {
    async fn answer(&self, cx: &Cx, question: Question) -> Result<Value, Problem> {
        let times = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        match question.data["want"].as_str() {
            Some("no") => Err(Problem::new(Kind::Conflict, "sold-out", "there is none left")),
            Some("panic") => panic!("on purpose"),
            Some("second") if times == 1 => Err(Problem::timeout()),
            _ => Ok(json!({ "by": self.name, "trace": cx.traceparent(), "id": question.id })),
        }
    }
}

fn server(url: &str) -> settings::RedisServer {
    settings::RedisServer { redis_url: url.parse().unwrap() }
}

/// A bus that tries again soon.
fn bus(url: &str, running: &mut JoinSet<()>) -> RedisBus {
    let (first_wait, open) = (Duration::from_millis(10), Duration::from_millis(300));
    let policy = Policy { first_wait, open, ..Policy::default() };
    let bus = RedisBus::new(&server(url), "a", Metrics::new(), policy).unwrap();
    running.spawn(bus.clone().run());
    bus
}

fn answer(url: &str, clerk: &Clerk, running: &mut JoinSet<()>) {
    running.spawn(Responder::new(&server(url), "desk").unwrap().run(clerk.clone()));
}

fn cx(longest: Duration) -> Cx {
    let mut headers = HeaderMap::new();
    headers.insert("traceparent", HeaderValue::from_static(TRACE));
    Cx::new(&headers, Instant::now(), longest)
}

async fn ask(bus: &RedisBus, want: &str, patience: Duration) -> Result<Value, BusError> {
    bus.send(&cx(LONG), "desk", &json!({ "want": want }), patience).await
}

#[tokio::test]
async fn every_question_is_answered_by_one_of_those_who_may() {
    let (url, mut running) = (redis().await, JoinSet::new());
    let (a, b) = (Clerk::new("a"), Clerk::new("b"));
    let (first, second) = (bus(&url, &mut running), bus(&url, &mut running));
    answer(&url, &a, &mut running);
    answer(&url, &b, &mut running);
    let asking = (0..100).map(|i| ask([&first, &second][i % 2], "", LONG));
    for answered in join_all(asking).await {
        assert_eq!(answered.unwrap()["trace"], TRACE);
    }
    assert_eq!(a.asked() + b.asked(), 100);
    let redis = Redis::new(url.parse().unwrap()).unwrap();
    assert_eq!(redis.run::<usize>(&cmd("DBSIZE")).await.unwrap(), 0, "something was left behind");
    let text = first.metrics.text();
    assert!(text.contains("shop_bus_calls_total{outcome=\"answered\",to=\"desk\"} 50"), "{text}");
}

#[tokio::test]
async fn a_no_is_an_answer_and_a_failure_is_tried_again() {
    let (url, mut running) = (redis().await, JoinSet::new());
    let clerk = Clerk::new("a");
    let bus = bus(&url, &mut running);
    answer(&url, &clerk, &mut running);
    assert_eq!(ask(&bus, "second", LONG).await.unwrap()["by"], "a");
    assert_eq!(clerk.asked(), 2);
    let refused = ask(&bus, "no", LONG).await.unwrap_err();
    assert!(
        matches!(&refused, BusError::Refused { status: 409, slug, .. } if slug == "sold-out"),
        "{refused:?}"
    );
    assert_eq!(clerk.asked(), 3);
    let panicked = ask(&bus, "panic", LONG).await.unwrap_err();
    assert!(matches!(panicked, BusError::Refused { status: 500, .. }), "{panicked:?}");
    assert_eq!(clerk.asked(), 7, "once and three times again");
}

#[tokio::test]
async fn a_question_that_nobody_waits_for_any_more_is_not_taken() {
    let (url, mut running) = (redis().await, JoinSet::new());
    let bus = bus(&url, &mut running);
    let late = bus.send(&cx(SHORT), "desk", &json!({}), LONG).await.unwrap_err();
    assert!(matches!(late, BusError::Timeout), "{late:?}");
    let clerk = Clerk::new("a");
    answer(&url, &clerk, &mut running);
    assert_eq!(ask(&bus, "", LONG).await.unwrap()["by"], "a");
    assert_eq!(clerk.asked(), 1, "the first question was over");
}

#[tokio::test]
async fn a_late_answer_is_dropped_and_one_to_an_earlier_try_is_not() {
    let (url, mut running) = (redis().await, JoinSet::new());
    let policy = Policy { first_wait: LONG, retries: 1, ..Policy::default() };
    let bus = RedisBus::new(&server(&url), "a", Metrics::new(), policy).unwrap();
    running.spawn(bus.clone().run());
    // A responder ends with its question; this one answers all the same.
    let redis = Redis::new(url.parse().unwrap()).unwrap();
    let answer_by_hand = async {
        let mut call = None;
        eventually("there is a question", async || {
            call = redis.run::<Option<String>>(cmd("LPOP").arg("call:desk")).await.unwrap();
            call.is_some()
        })
        .await;
        let call: Value = serde_json::from_str(&call.unwrap()).unwrap();
        let alive = call["alive"].as_str().unwrap();
        eventually("its time is over", async || {
            redis.run::<usize>(cmd("EXISTS").arg(alive)).await.unwrap() == 0
        })
        .await;
        let reply = json!({"id": call["id"], "answer": {"Ok": "late"}}).to_string();
        redis.run::<()>(cmd("RPUSH").arg(call["reply_to"].as_str().unwrap()).arg(&reply)).await.unwrap();
        (call["reply_to"].as_str().unwrap().to_owned(), reply)
    };
    let (answered, (list, reply)) = tokio::join!(ask(&bus, "", SHORT), answer_by_hand);
    assert_eq!(answered.unwrap(), "late");

    // Once more, when nobody asks: it is taken out of the list and forgotten, and so is what is no answer.
    for entry in [reply.as_str(), "{", "\u{0}"] {
        redis.run::<()>(cmd("RPUSH").arg(&list).arg(entry)).await.unwrap();
    }
    eventually("the list is empty", async || {
        redis.run::<usize>(cmd("EXISTS").arg(&list)).await.unwrap() == 0
    })
    .await;
    answer(&url, &Clerk::new("b"), &mut running);
    assert_eq!(ask(&bus, "", LONG).await.unwrap()["by"], "b");
}

#[tokio::test]
async fn after_five_failures_an_address_is_left_alone_until_a_trial_succeeds() {
    let (url, mut running) = (redis().await, JoinSet::new());
    let policy = Policy { retries: 0, open: Duration::from_millis(300), ..Policy::default() };
    let bus = RedisBus::new(&server(&url), "a", Metrics::new(), policy).unwrap();
    running.spawn(bus.clone().run());
    for _ in 0..5 {
        let failed = ask(&bus, "", Duration::from_millis(20)).await;
        assert!(matches!(failed, Err(BusError::Timeout)), "{failed:?}");
    }
    let refused = ask(&bus, "", LONG).await;
    assert!(matches!(refused, Err(BusError::Open)), "{refused:?}");
    assert!(bus.send(&cx(LONG), "elsewhere", &json!({}), SHORT).await.is_err_and(|error| error.may_pass()));
    answer(&url, &Clerk::new("a"), &mut running);
    eventually("a trial succeeds", async || ask(&bus, "", LONG).await.is_ok()).await;
    assert!(ask(&bus, "", LONG).await.is_ok());
}

#[tokio::test]
async fn both_sides_outlive_a_redis_that_is_away() {
    let (server, mut running) = (RedisServer::start(), JoinSet::new());
    let clerk = Clerk::new("a");
    let bus = bus(&server.url(), &mut running);
    answer(&server.url(), &clerk, &mut running);
    assert!(ask(&bus, "", LONG).await.is_ok());
    server.stop();
    let failed = bus.send(&cx(SHORT), "desk", &json!({}), LONG).await;
    assert!(matches!(failed, Err(BusError::Unreachable(_) | BusError::Timeout)), "{failed:?}");
    server.resume();
    eventually("questions are answered again", async || ask(&bus, "", SHORT).await.is_ok()).await;
}

#[test]
fn an_outage_begins_once_and_again_after_a_connection_that_worked() {
    let mut outage = Outage::default();
    let begins = [SHORT, SHORT, STEADY, SHORT].map(|held| outage.begins(held));
    assert_eq!(begins, [true, false, true, false]);
}
