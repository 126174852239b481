//! From outbox to inbox against a real PostgreSQL and Redis: shared work, failures, crashes, a Redis that forgets.

use std::{
    collections::HashMap,
    future::ready,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ::redis::{
    cmd,
    streams::{StreamPendingReply, StreamReadReply},
};
use proptest::{collection::vec, prelude::any, test_runner::TestRunner};
use serde_json::json;
use sqlx::{PgPool, query, query_scalar};
use tokio::{sync::Notify, task::JoinSet};
use uuid::Uuid;

use super::{Consumer, Event, Failure, Handle, Publisher, enqueue, enqueue_all, inbox, wire, wire::Fields};
use crate::{
    clock,
    metrics::Metrics,
    redis::Redis,
    settings,
    testing::{RedisServer, database, eventually, redis},
};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const STREAM: &str = "order.created";
const DEAD: &str = "order.created.dead";

/// A handler that does what a function says.
struct With<F>(F);

impl<F, R> Handle for With<F>
where
    F: Fn(Event) -> R + Send + Sync,
    R: Future<Output = Result<(), Failure>> + Send,
{
    fn handle(&self, event: &Event) -> impl Future<Output = Result<(), Failure>> + Send {
        (self.0)(event.clone())
    }
}

fn server(url: &str) -> settings::RedisServer {
    settings::RedisServer { redis_url: url.parse().unwrap() }
}

fn consumer(url: &str, name: &str) -> Consumer {
    Consumer::new(&server(url), "mail", name, &[STREAM], Metrics::new()).unwrap()
}

fn connect(url: &str) -> Redis {
    Redis::new(url.parse().unwrap()).unwrap()
}

fn event(n: usize) -> Event {
    Event {
        id: Uuid::new_v4(),
        stream: STREAM.into(),
        data: json!({ "n": n }),
        traceparent: Some(TRACE.into()),
        time: clock::now(),
    }
}

async fn publish(redis: &Redis, events: &[Event]) {
    for event in events {
        redis.run::<()>(&wire::append(event)).await.unwrap();
    }
}

async fn pending(redis: &Redis) -> usize {
    redis.run::<StreamPendingReply>(cmd("XPENDING").arg(STREAM).arg("mail")).await.unwrap().count()
}

/// What is in the dead-letter stream: fields by name.
async fn dead(redis: &Redis) -> Vec<HashMap<Vec<u8>, String>> {
    let found: Vec<(String, Fields)> = redis.run(cmd("XRANGE").arg(DEAD).arg("-").arg("+")).await.unwrap();
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let letter = |fields: Fields| fields.chunks(2).map(|pair| (pair[0].clone(), text(&pair[1]))).collect();
    found.into_iter().map(|(_, fields)| letter(fields)).collect()
}

/// Counts how often each event is handled.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<HashMap<Uuid, usize>>>);

impl Seen {
    fn note(&self, event: &Event) -> usize {
        let mut seen = self.0.lock().unwrap();
        let times = seen.entry(event.id).or_default();
        *times += 1;
        *times
    }

    fn all_once(&self, events: &[Event]) -> bool {
        let seen = self.0.lock().unwrap();
        events.iter().all(|event| seen.get(&event.id) == Some(&1))
    }

    fn handler(&self) -> impl Handle + 'static {
        let seen = self.clone();
        With(move |event: Event| {
            seen.note(&event);
            ready(Ok(()))
        })
    }
}

async fn tables() -> PgPool {
    let pool = PgPool::connect(&database().await).await.unwrap();
    for (file, table) in [(include_str!("outbox.rs"), "outbox"), (include_str!("inbox.rs"), "inbox")] {
        // The tables are what the documentation says they are.
        let doc: Vec<&str> = file.lines().filter_map(|line| line.strip_prefix("//! ")).collect();
        let from = doc.iter().position(|line| *line == "```sql").unwrap();
        let sql: Vec<&str> = doc[from + 1..].iter().take_while(|line| **line != "```").copied().collect();
        let sql = sql.join("\n");
        assert!(sql.contains(table), "{sql}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&pool).await.unwrap();
    }
    query("CREATE TABLE effects (event_id uuid NOT NULL)").execute(&pool).await.unwrap();
    pool
}

/// The effect of an event, at most once.
async fn take_effect(pool: &PgPool, event: &Event) -> Result<(), Failure> {
    let mut tx = pool.begin().await?;
    if inbox::first_time(&mut tx, "mail", event.id).await? {
        query("INSERT INTO effects (event_id) VALUES ($1)").bind(event.id).execute(&mut *tx).await?;
    }
    Ok(tx.commit().await?)
}

async fn effects(pool: &PgPool) -> (i64, i64) {
    let ask = "SELECT count(*) FROM effects";
    let distinct = "SELECT count(DISTINCT event_id) FROM effects";
    (query_scalar(ask).fetch_one(pool).await.unwrap(), query_scalar(distinct).fetch_one(pool).await.unwrap())
}

#[tokio::test]
async fn an_event_of_the_outbox_reaches_every_group_once_whoever_of_it_is_there() {
    let (url, pool) = (redis().await, tables().await);
    let events: Vec<Event> = (0..50).map(event).collect();
    let publisher = Publisher::new(pool.clone(), connect(&url), Metrics::new());
    let (mail, books) = (Seen::default(), Seen::default());
    let mut running = JoinSet::new();
    for name in ["a", "b", "c"] {
        running.spawn(consumer(&url, name).run(mail.handler()));
    }
    let other = Consumer::new(&server(&url), "books", "a", &[STREAM], Metrics::new()).unwrap();
    running.spawn(other.run(books.handler()));
    for event in &events {
        let mut tx = pool.begin().await.unwrap();
        enqueue(&mut tx, event).await.unwrap();
        tx.commit().await.unwrap();
    }
    assert_eq!(publisher.publish_batch().await.unwrap(), 50);
    eventually("both groups have all", async || mail.all_once(&events) && books.all_once(&events)).await;
    eventually("all is acknowledged", async || pending(&connect(&url)).await == 0).await;
}

#[tokio::test]
async fn many_events_are_enqueued_as_they_are_and_in_their_order() {
    let pool = tables().await;
    let mut events: Vec<Event> = (0..20).rev().map(event).collect();
    events[3].traceparent = None;
    let mut tx = pool.begin().await.unwrap();
    enqueue_all(&mut tx, &events).await.unwrap();
    enqueue_all(&mut tx, &[]).await.unwrap();
    tx.commit().await.unwrap();
    let sql = "SELECT id, stream, data, traceparent, time FROM outbox ORDER BY position";
    let kept: Vec<Event> = sqlx::query_as(sql).fetch_all(&pool).await.unwrap();
    let shown = |events: &[Event]| format!("{events:?}");
    assert_eq!(shown(&kept), shown(&events));
}

#[tokio::test]
async fn an_event_carries_what_was_enqueued_and_its_trace() {
    let url = redis().await;
    let sent = event(7);
    publish(&connect(&url), std::slice::from_ref(&sent)).await;
    let heard = Arc::new(Mutex::new(None));
    let note = heard.clone();
    let handler = With(move |event: Event| {
        note.lock().unwrap().replace(event);
        ready(Ok(()))
    });
    let mut running = JoinSet::new();
    running.spawn(consumer(&url, "a").run(handler));
    eventually("the event is heard", async || heard.lock().unwrap().is_some()).await;
    let heard = heard.lock().unwrap().take().unwrap();
    assert_eq!((heard.id, &heard.data, heard.time), (sent.id, &sent.data, sent.time));
    assert_eq!(heard.cx(Duration::from_secs(1)).traceparent(), Some(TRACE));
}

#[tokio::test]
async fn a_crash_between_effect_and_acknowledgement_delivers_again_and_has_the_effect_once() {
    let (url, pool) = (redis().await, tables().await);
    let redis = connect(&url);
    publish(&redis, &[event(0)]).await;
    let committed = Arc::new(Notify::new());
    let (told, first) = (committed.clone(), pool.clone());
    let dies = With(move |event: Event| {
        let (told, pool) = (told.clone(), first.clone());
        async move {
            take_effect(&pool, &event).await?;
            told.notify_one();
            std::future::pending().await
        }
    });
    let mut running = JoinSet::new();
    running.spawn(consumer(&url, "a").run(dies));
    committed.notified().await;
    running.shutdown().await;
    assert_eq!((effects(&pool).await, pending(&redis).await), ((1, 1), 1));

    let (again, second) = (Arc::new(AtomicUsize::new(0)), pool.clone());
    let count = again.clone();
    let lives = With(move |event: Event| {
        let (count, pool) = (count.clone(), second.clone());
        async move {
            count.fetch_add(1, Ordering::Relaxed);
            take_effect(&pool, &event).await
        }
    });
    running.spawn(consumer(&url, "b").stale_after(Duration::from_millis(300)).run(lives));
    eventually("the other one takes over", async || pending(&redis).await == 0).await;
    assert_eq!((again.load(Ordering::Relaxed), effects(&pool).await), (1, (1, 1)));
    assert!(dead(&redis).await.is_empty());
}

#[tokio::test]
async fn an_event_that_fails_comes_again_then_dies_and_never_blocks_the_others() {
    let url = redis().await;
    let redis = connect(&url);
    let events: Vec<Event> = (0..20).map(event).collect();
    publish(&redis, &events).await;
    let (poison, seen) = (events[0].id, Seen::default());
    let note = seen.clone();
    let handler = With(move |event: Event| {
        let (times, fails) = (note.note(&event), event.id == poison);
        let failure = || Failure::Retry(anyhow::anyhow!("failed for the {times}. time"));
        ready(if fails { Err(failure()) } else { Ok(()) })
    });
    let metrics = Metrics::new();
    let consumer = Consumer::new(&server(&url), "mail", "a", &[STREAM], metrics.clone()).unwrap();
    let mut running = JoinSet::new();
    running.spawn(consumer.deliveries(3).stale_after(Duration::from_secs(3)).run(handler));
    eventually("the others are handled", async || seen.all_once(&events[1..])).await;
    eventually("it is dead", async || dead(&redis).await.len() == 1).await;
    let letter = dead(&redis).await.remove(0);
    let field = |name: &str| letter.get(name.as_bytes()).map(String::as_str);
    assert_eq!(field("id"), Some(poison.to_string().as_str()), "{letter:?}");
    for (name, expect) in
        [("group", "mail"), ("deliveries", "3"), ("reason", "failed for the 3. time"), ("traceparent", TRACE)]
    {
        assert_eq!(field(name), Some(expect), "{letter:?}");
    }
    assert_eq!((pending(&redis).await, seen.0.lock().unwrap()[&poison]), (0, 3));
    let text = metrics.text();
    for (outcome, times) in [("handled", 19), ("retried", 2), ("dead", 1)] {
        let line = format!("group=\"mail\",outcome=\"{outcome}\",stream=\"order.created\"}} {times}");
        assert!(text.contains(&line), "{line} is missing in {text}");
    }
    assert!(text.contains("shop_events_waiting{group=\"mail\",state=\"pending\""), "{text}");
}

#[tokio::test]
async fn what_is_rejected_and_what_is_no_event_is_dead_at_once() {
    let url = redis().await;
    let redis = connect(&url);
    redis.run::<()>(cmd("XADD").arg(STREAM).arg("*").arg(b"\xff\x00").arg(b"\xfe")).await.unwrap();
    let mut huge = cmd("XADD");
    huge.arg(STREAM).arg("*");
    (0..9000).for_each(|i| {
        huge.arg(i).arg(i);
    });
    redis.run::<()>(&huge).await.unwrap();
    let events = [event(0), event(1)];
    publish(&redis, &events).await;
    let (seen, bad) = (Seen::default(), events[0].id);
    let note = seen.clone();
    let handler = With(move |event: Event| {
        note.note(&event);
        let reject = event.id == bad;
        ready(if reject { Err(Failure::Reject("no such customer".into())) } else { Ok(()) })
    });
    let mut running = JoinSet::new();
    running.spawn(consumer(&url, "a").run(handler));
    eventually("all are done with", async || seen.all_once(&events) && pending(&redis).await == 0).await;
    let letters = dead(&redis).await;
    let reasons: Vec<_> = letters.iter().map(|letter| letter[b"reason".as_slice()].as_str()).collect();
    let malformed = "malformed entry: id is missing";
    assert_eq!(reasons, [malformed, malformed, "no such customer"]);
}

#[tokio::test]
async fn a_process_that_dies_of_an_event_does_not_pass_it_on_for_ever() {
    let url = redis().await;
    let redis = connect(&url);
    publish(&redis, &[event(0)]).await;
    redis.run::<()>(cmd("XGROUP").arg("CREATE").arg(STREAM).arg("mail").arg("0")).await.unwrap();
    let mut read = cmd("XREADGROUP");
    read.arg("GROUP").arg("mail").arg("a").arg("STREAMS").arg(STREAM).arg(">");
    let read: StreamReadReply = redis.run(&read).await.unwrap();
    let mut claim = cmd("XCLAIM");
    claim.arg(STREAM).arg("mail").arg("a").arg(0).arg(&read.keys[0].ids[0].id);
    claim.arg("RETRYCOUNT").arg(3).arg("JUSTID");
    redis.run::<()>(&claim).await.unwrap();
    let seen = Seen::default();
    let mut running = JoinSet::new();
    running
        .spawn(consumer(&url, "b").deliveries(3).stale_after(Duration::from_millis(100)).run(seen.handler()));
    eventually("it is dead", async || pending(&redis).await == 0).await;
    assert_eq!((dead(&redis).await.len(), seen.0.lock().unwrap().len()), (1, 0));
}

#[tokio::test]
async fn consumers_outlive_a_redis_that_forgets_everything() {
    let server = RedisServer::start();
    let (url, seen) = (server.url(), Seen::default());
    let redis = connect(&url);
    let mut running = JoinSet::new();
    running.spawn(consumer(&url, "a").run(seen.handler()));
    let before = [event(0)];
    publish(&redis, &before).await;
    eventually("the first is heard", async || seen.all_once(&before)).await;

    // The group is gone, the connection is not.
    redis.run::<()>(&cmd("FLUSHALL")).await.unwrap();
    let second = event(1);
    publish(&redis, std::slice::from_ref(&second)).await;
    let heard = [before, [second]].concat();
    eventually("the second is heard", async || seen.all_once(&heard)).await;

    server.stop();
    server.resume();
    let third = event(2);
    eventually("redis is back", async || redis.run::<()>(&cmd("PING")).await.is_ok()).await;
    publish(&redis, std::slice::from_ref(&third)).await;
    let heard = [heard, vec![third]].concat();
    eventually("the third is heard", async || seen.all_once(&heard)).await;
}

/// What becomes of one delivery.
#[derive(Clone, Copy, Debug)]
enum Fate {
    FailsBefore,
    FailsAfter,
    Panics,
    Hangs,
}

fn fate(n: u8) -> Fate {
    [Fate::FailsBefore, Fate::FailsAfter, Fate::Panics, Fate::Hangs][usize::from(n % 4)]
}

/// Handles an event and meets a fate.
async fn meet(fate: Option<Fate>, pool: &PgPool, event: &Event) -> Result<(), Failure> {
    let failure = |when: &'static str| Err(Failure::Retry(anyhow::anyhow!(when)));
    match fate {
        None => take_effect(pool, event).await,
        Some(Fate::FailsBefore) => failure("before"),
        Some(Fate::FailsAfter) => {
            take_effect(pool, event).await?;
            failure("after")
        }
        Some(Fate::Panics) => panic!("on purpose"),
        Some(Fate::Hangs) => std::future::pending().await,
    }
}

/// Handles events whose first deliveries meet these fates, over two consumers, and counts the effects.
async fn run_fates(url: String, pool: PgPool, fates: Vec<Vec<u8>>) -> ((i64, i64), usize) {
    query("TRUNCATE effects, inbox").execute(&pool).await.unwrap();
    let redis = connect(&url);
    redis.run::<()>(&cmd("FLUSHDB")).await.unwrap();
    let events: Vec<Event> = (0..fates.len()).map(event).collect();
    publish(&redis, &events).await;
    let fates: HashMap<Uuid, Vec<u8>> = events.iter().map(|event| event.id).zip(fates).collect();
    let (fates, seen) = (Arc::new(fates), Seen::default());
    let mut running = JoinSet::new();
    for name in ["a", "b"] {
        let (fates, seen, pool) = (fates.clone(), seen.clone(), pool.clone());
        let handler = With(move |event: Event| {
            let times = seen.note(&event);
            let fate = fates[&event.id].get(times - 1).copied().map(fate);
            let pool = pool.clone();
            async move { meet(fate, &pool, &event).await }
        });
        running.spawn(consumer(&url, name).stale_after(Duration::from_millis(400)).run(handler));
    }
    let all = i64::try_from(events.len()).unwrap();
    eventually("every event has its effect and is acknowledged", async || {
        effects(&pool).await.1 == all && pending(&redis).await == 0
    })
    .await;
    (effects(&pool).await, dead(&redis).await.len())
}

#[test]
fn whatever_befalls_its_deliveries_an_event_has_its_effect_once() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (url, pool) = runtime.block_on(async { (redis().await, tables().await) });
    let config = proptest::test_runner::Config {
        cases: 6,
        max_shrink_iters: 0,
        failure_persistence: None,
        ..Default::default()
    };
    let check = TestRunner::new(config).run(&vec(vec(any::<u8>(), 0..4), 1..8), |fates| {
        let all = i64::try_from(fates.len()).unwrap();
        let (effects, dead) = runtime.block_on(run_fates(url.clone(), pool.clone(), fates));
        proptest::prop_assert_eq!((effects, dead), ((all, all), 0));
        Ok(())
    });
    check.unwrap();
}
