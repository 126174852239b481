//! The rush: many more buyers than seats, real processes, and everything that can die does, in the middle of it.
//! Afterwards the books must balance: what is sold is paid, what is paid is sold, and no seat is sold twice.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
    sync::{
        RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, join, stream::iter};
use serde_json::{Value, json};
use shop_kit::testing::{Http, RedisServer, cut_off, database, eventually, let_in};
use sqlx::{Connection as _, PgConnection};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::sleep,
};
use uuid::Uuid;

use crate::office::{Office, start, start_payment, words};

/// Buyers at once.
const AT_ONCE: usize = 64;
/// Tries of a buyer whom nobody answers.
const TRIES: usize = 100;

/// Twenty for each seat, which only one in twenty gets, and one per customer, though every customer tries twice. The same
/// with 10,000 buyers for 500 seats takes four times as long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buyers_rush_on_a_redis_that_sells() {
    rush("redis", 2_500, 125).await;
}

/// The row lets in one customer after the other, so that a smaller crowd is as much of a rush.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buyers_rush_on_a_row_that_sells() {
    rush("postgres", 1_000, 50).await;
}

async fn rush(strategy: &str, buyers: usize, capacity: i64) {
    let server = RedisServer::start();
    let redis = server.url();
    let (tickets, payments) = (database().await, database().await);
    let payment = start_payment(&payments, &redis, None).await;
    let office = Office {
        // One instance in this process, to ask; the other two are those that sell, and die.
        ticket: start(&tickets, &redis, &payment.grpc, &["--reservation-lifetime", "2s"]).await,
        database: tickets.clone(),
        payments,
        redis: redis.clone(),
        payment: None,
    };
    let fields = json!({"strategy": strategy, "capacity": capacity, "per_user_limit": 1});
    let event = office.event(fields).await;
    let instances = [
        Instance::start("a", &tickets, &redis, &payment.grpc).await,
        Instance::start("b", &tickets, &redis, &payment.grpc).await,
    ];
    let done = AtomicUsize::new(0);
    let crowd = iter((0..buyers).map(|i| buy(&instances, &event, i, &done)));
    let crowd = crowd.buffer_unordered(AT_ONCE).collect::<Vec<_>>();
    let (outcomes, ()) = join!(crowd, disasters(&instances, &server, &office, (&done, buyers)));

    let count = |slug: &str| outcomes.iter().filter(|outcome| outcome.slug == slug).count();
    assert_eq!(count("gave-up"), 0, "{:?}", tally(&outcomes));
    eventually("nothing is open any more", async || {
        let books = office.books().await;
        !["held", "paying", "refunding"].iter().any(|open| books.contains_key(*open))
    })
    .await;
    balance(&office, &event, capacity, &outcomes).await;
    for instance in instances {
        instance.stop().await;
    }
}

/// How a buyer fared.
struct Outcome {
    slug: String,
    ticket: Option<Uuid>,
}

fn tally(outcomes: &[Outcome]) -> BTreeMap<&str, usize> {
    let mut tally = BTreeMap::new();
    for outcome in outcomes {
        *tally.entry(outcome.slug.as_str()).or_default() += 1;
    }
    tally
}

/// A buyer who asks again, elsewhere and with the same key, until somebody says yes or no.
async fn buy(instances: &[Instance; 2], event: &str, i: usize, done: &AtomicUsize) -> Outcome {
    let method = if i.is_multiple_of(10) { "tok_declined" } else { "tok_ok" };
    let (path, body) = (format!("{event}/purchases"), json!({ "method": method }));
    let user = Uuid::from_u128(1 + i as u128 / 2);
    let mut outcome = Outcome { slug: "gave-up".into(), ticket: None };
    for attempt in 0..TRIES {
        let http = instances[(i + attempt) % 2].http();
        let me = http.user(user, "customer").header("idempotency-key", &format!("buyer-{i}"));
        let Some(reply) = me.try_post(&path, body.clone()).await else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let slug = reply.body["type"].as_str().unwrap_or_default().replace("urn:problem:shop:", "");
        match slug.as_str() {
            "" => {
                let status = reply.body["status"].as_str().unwrap_or_default().to_owned();
                let ticket = reply.body["id"].as_str().map(|id| id.parse().unwrap());
                outcome = Outcome { slug: status, ticket };
                break;
            }
            // Nobody knows yet, or what was known is lost: ask again.
            "unavailable" | "timeout" | "starting" | "internal" | "reservation-lost" | "ticket-not-found" => {
                sleep(Duration::from_millis(50)).await;
            }
            _ => {
                outcome.slug = slug;
                break;
            }
        }
    }
    done.fetch_add(1, Ordering::Relaxed);
    outcome
}

/// Everything dies once, at equal parts of the way, while the crowd goes on.
async fn disasters(
    instances: &[Instance; 2],
    redis: &RedisServer,
    office: &Office,
    (done, buyers): (&AtomicUsize, usize),
) {
    let reached = async |percent: usize| {
        while done.load(Ordering::Relaxed) * 100 < buyers * percent {
            sleep(Duration::from_millis(5)).await;
        }
    };
    reached(1).await;
    instances[0].kill_and_restart().await;
    reached(2).await;
    cut_off(&office.database).await;
    sleep(Duration::from_millis(300)).await;
    let_in(&office.database).await;
    reached(3).await;
    tokio::task::block_in_place(|| {
        redis.stop();
        redis.resume();
    });
    reached(4).await;
    office.redis::<()>(&["FLUSHALL"]).await;
    instances[1].kill_and_restart().await;
    reached(50).await;
    instances[0].kill_and_restart().await;
}

async fn balance(office: &Office, event: &str, capacity: i64, outcomes: &[Outcome]) {
    let mut tickets = PgConnection::connect(&office.database).await.unwrap();
    let sql = "SELECT id, status FROM tickets";
    let rows: Vec<(Uuid, String)> = sqlx::query_as(sql).fetch_all(&mut tickets).await.unwrap();
    let sold: BTreeSet<Uuid> =
        rows.iter().filter(|(_, status)| status == "sold").map(|(id, _)| *id).collect();
    let mut payments = PgConnection::connect(&office.payments).await.unwrap();
    let sql = "SELECT reference, amount FROM payments WHERE status = 'captured'";
    let rows: Vec<(String, i64)> = sqlx::query_as(sql).fetch_all(&mut payments).await.unwrap();
    let captured: BTreeSet<Uuid> = rows
        .iter()
        .map(|(reference, _)| reference.strip_prefix("ticket:").unwrap().parse().unwrap())
        .collect();
    assert_eq!(sold, captured, "what is sold is paid, and what is paid is sold");
    assert!(rows.iter().all(|(_, amount)| *amount == 4500));
    let told: BTreeSet<Uuid> = outcomes
        .iter()
        .filter(|outcome| outcome.slug == "sold")
        .filter_map(|outcome| outcome.ticket)
        .collect();
    assert!(told.is_subset(&sold), "no ticket is lost that was sold: {:?}", told.difference(&sold));
    let sql =
        "SELECT count(*) FROM (SELECT user_id FROM tickets GROUP BY user_id HAVING sum(seats) > 1) greedy";
    let greedy: i64 = sqlx::query_scalar(sql).fetch_one(&mut tickets).await.unwrap();
    assert_eq!(greedy, 0, "one seat per customer");

    let sold = i64::try_from(sold.len()).unwrap();
    // The first to ask after Redis died may be told to ask again.
    let path = format!("{event}/reconciliation");
    eventually("both agree", async || office.admin().get(&path).await.body["agrees"] == true).await;
    assert_eq!(sold + office.left(event).await, capacity, "{:?}", tally(outcomes));
    assert_eq!(sold, capacity, "a crowd buys all there is: {:?}", tally(outcomes));
}

/// The program itself, in a process of its own.
struct Instance {
    words: Vec<String>,
    running: RwLock<Option<(Child, Http)>>,
}

impl Instance {
    async fn start(name: &str, database: &str, redis: &str, payment: &str) -> Self {
        let more = ["--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--instance", name];
        let more =
            [more.as_slice(), &["--reservation-lifetime", "2s", "--log", "warn,shop_kit=info"]].concat();
        let words = words(database, redis, payment, &more).into_iter().skip(1).map(str::to_owned).collect();
        let instance = Self { words, running: RwLock::default() };
        instance.launch().await;
        instance
    }

    async fn launch(&self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shop-ticket"));
        command.args(&self.words).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = loop {
            let line = lines.next_line().await.unwrap().expect("the program says where it listens");
            let entry: Value = serde_json::from_str(&line).unwrap();
            if entry["message"] == "listening" {
                break entry["http"].as_str().unwrap().to_owned();
            }
        };
        // What it logs afterwards must be read, or it would wait for that.
        let drained = async move { while let Ok(Some(_)) = lines.next_line().await {} };
        #[expect(clippy::disallowed_methods, reason = "ends with the process")]
        tokio::spawn(drained);
        *self.running.write().unwrap() = Some((child, Http::new(format!("http://{address}"))));
    }

    fn http(&self) -> Http {
        self.running.read().unwrap().as_ref().map(|(_, http)| http.clone()).unwrap()
    }

    async fn kill_and_restart(&self) {
        let running = self.running.write().unwrap().as_mut().map(|(child, _)| child.start_kill());
        running.unwrap().unwrap();
        self.launch().await;
    }

    async fn stop(self) {
        let (mut child, _) = self.running.write().unwrap().take().unwrap();
        child.kill().await.unwrap();
    }
}
