//! Redis and PostgreSQL: that they agree, that it is noticed when they do not, and that it is put right.

use http::StatusCode;
use serde_json::{Value, json};
use shop_kit::testing::{RedisServer, cut_off, eventually, let_in};
use uuid::Uuid;

use crate::office::{Office, assert_problem, id_of};

fn seats(quantity: i64) -> Value {
    json!({ "quantity": quantity })
}

async fn all_is_written(office: &Office) {
    eventually("all is written", async || office.redis::<u64>(&["XLEN", "ticket:holds"]).await == 0).await;
}

#[tokio::test]
async fn differences_are_reported_counted_and_repaired() {
    let office = Office::open().await;
    let event = office.event(json!({"strategy": "redis"})).await;
    let (me, other) = (office.customer(), office.customer());
    let id = id_of(&me.post(&format!("{event}/reservations"), seats(2)).await);
    other.post(&format!("{event}/reservations"), seats(1)).await;
    all_is_written(&office).await;
    let report = office.reconciliation(&event).await;
    assert_eq!(
        (&report["agrees"], &report["in_redis"], &report["in_postgres"]),
        (&json!(true), &json!(3), &json!(3))
    );

    let ghost = format!("00000001-0000-4000-8000-{:012}", 7);
    let entry = format!("{} 4 1 1", Uuid::new_v4());
    office.redis::<()>(&["HSET", "ticket:1:tickets", &ghost, &entry]).await;
    office.redis::<()>(&["HDEL", "ticket:1:tickets", &id]).await;
    office.redis::<()>(&["HSET", "ticket:1", "left", "9"]).await;
    assert_eq!(office.left(&event).await, 9);
    let report = office.reconciliation(&event).await;
    let mut kinds: Vec<_> = report["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| found["kind"].as_str().unwrap())
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, ["customer", "left", "only_in_postgres", "only_in_redis"], "{report}");
    assert_eq!((&report["agrees"], &report["repaired"]), (&json!(false), &json!(false)));
    let metrics = office.ticket.http.get("/metrics").await.body.to_string();
    assert!(metrics.contains(r#"shop_ticket_differences_total{kind=\"only_in_redis\"} 1"#), "{metrics}");

    let path = format!("{event}/reconciliation");
    assert_problem(&me.get(&path).await, 403, "forbidden");
    assert_problem(&me.post(&path, json!({})).await, 403, "forbidden");
    assert_eq!(office.admin().post(&path, json!({})).await.body["repaired"], true);
    let report = office.reconciliation(&event).await;
    assert_eq!((&report["agrees"], &report["in_redis"]), (&json!(true), &json!(3)), "{report}");
    assert_eq!(office.left(&event).await, 7);
    assert_problem(&me.post(&format!("{event}/reservations"), seats(3)).await, 409, "limit-reached");
}

#[tokio::test]
async fn a_wrong_counter_is_found_by_itself() {
    let office = Office::open_with(&shop_kit::testing::redis().await, &["--reconcile-every", "100ms"]).await;
    let event = office.event(json!({"strategy": "redis"})).await;
    office.customer().post(&format!("{event}/reservations"), seats(2)).await;
    office.redis::<()>(&["HSET", "ticket:1", "left", "10"]).await;
    eventually("the counter is right again", async || office.left(&event).await == 8).await;
}

#[tokio::test]
async fn a_counter_that_gives_away_what_is_taken_is_put_right_at_the_first_refusal() {
    let office = Office::open().await;
    let event = office.event(json!({"strategy": "redis", "capacity": 2})).await;
    let path = format!("{event}/reservations");
    let id = id_of(&office.customer().post(&path, seats(2)).await);
    all_is_written(&office).await;
    // As it is rebuilt while the hold, lost with Redis, is on its way into the tables.
    office.redis::<()>(&["HDEL", "ticket:1:tickets", &id]).await;
    office.redis::<()>(&["DEL", "ticket:1:users"]).await;
    office.redis::<()>(&["HSET", "ticket:1", "left", "2"]).await;
    assert_eq!(office.customer().post(&path, seats(1)).await.status, StatusCode::CREATED);
    eventually("the counter is right again", async || office.reconciliation(&event).await["agrees"] == true)
        .await;
    assert_problem(&office.customer().post(&path, seats(1)).await, 409, "sold-out");
}

#[tokio::test]
async fn a_redis_that_was_emptied_knows_all_that_was_written_before_it_sells_again() {
    let office = Office::open().await;
    let event = office.event(json!({"strategy": "redis", "capacity": 5})).await;
    let me = office.customer().header("idempotency-key", "k1");
    let id = id_of(&me.post(&format!("{event}/reservations"), seats(4)).await);
    let gone = office.customer().header("idempotency-key", "k2");
    let cancelled = id_of(&gone.post(&format!("{event}/reservations"), seats(1)).await);
    gone.post(&format!("/tickets/{cancelled}/cancel"), json!({})).await;
    all_is_written(&office).await;
    office.redis::<()>(&["FLUSHDB"]).await;
    assert_eq!(office.reconciliation(&event).await["differences"][0]["kind"], "stale");

    assert_problem(
        &office.customer().post(&format!("{event}/reservations"), seats(2)).await,
        409,
        "sold-out",
    );
    assert_eq!(id_of(&me.post(&format!("{event}/reservations"), seats(4)).await), id, "keys are known");
    assert_problem(
        &me.header("x", "y").post(&format!("{event}/reservations"), seats(1)).await,
        409,
        "key-reused",
    );
    let again = gone.post(&format!("{event}/reservations"), seats(1)).await;
    assert_eq!((id_of(&again), &again.body["status"]), (cancelled, &json!("cancelled")));
    assert_eq!(office.left(&event).await, 1);
    assert_eq!(office.reconciliation(&event).await["agrees"], true);
}

#[tokio::test]
async fn what_an_emptied_redis_had_held_does_not_count_beside_what_it_held_then() {
    let office = Office::open().await;
    let event = office.event(json!({"strategy": "redis", "per_user_limit": 2})).await;
    let user = Uuid::new_v4();
    let me = office.ticket.http.user(user, "customer");
    me.post(&format!("{event}/reservations"), seats(2)).await;
    all_is_written(&office).await;
    // As a writer finishes late that took this from the stream before it was emptied.
    let late = format!("00000001-0000-4000-8000-{:012} {user} 1 9000000000000 1", 7);
    office.redis::<()>(&["XADD", "ticket:holds", "*", "hold", &late]).await;
    all_is_written(&office).await;
    assert_eq!(office.seats("held").await, 2);
    assert_eq!(office.reconciliation(&event).await["agrees"], true);
}

#[tokio::test]
async fn a_restarted_redis_sells_only_what_is_left() {
    let server = RedisServer::start();
    let office = Office::open_with(&server.url(), &[]).await;
    let event = office.event(json!({"strategy": "redis", "capacity": 5})).await;
    let path = format!("{event}/reservations");
    assert_eq!(office.customer().post(&path, seats(3)).await.status, StatusCode::CREATED);
    all_is_written(&office).await;
    server.stop();
    assert_problem(&office.customer().post(&path, seats(3)).await, 503, "unavailable");
    server.resume();
    eventually("it is sold out for three", async || {
        office.customer().post(&path, seats(3)).await.body["type"] == "urn:problem:shop:sold-out"
    })
    .await;
    assert_eq!(office.customer().post(&path, seats(2)).await.status, StatusCode::CREATED);
    assert_eq!(office.left(&event).await, 0);
}

#[tokio::test]
async fn an_old_counter_that_a_restart_kept_is_not_believed() {
    let office = Office::open().await;
    let event = office.event(json!({"strategy": "redis", "capacity": 5})).await;
    let path = format!("{event}/reservations");
    assert_eq!(office.customer().post(&path, seats(3)).await.status, StatusCode::CREATED);
    all_is_written(&office).await;
    // As a Redis that lost its last second leaves it: the counter of another run, from before the reservation.
    office.redis::<()>(&["HSET", "ticket:1", "run", "another", "left", "5"]).await;
    office.redis::<()>(&["DEL", "ticket:1:tickets", "ticket:1:users"]).await;
    assert_problem(&office.customer().post(&path, seats(3)).await, 409, "sold-out");
    assert_eq!(office.left(&event).await, 2);
}

#[tokio::test]
async fn what_was_held_while_the_database_was_away_is_written_when_it_is_back() {
    let office = Office::open().await;
    let event = office.event(json!({"strategy": "redis", "capacity": 50})).await;
    let path = format!("{event}/reservations");
    assert_eq!(office.customer().post(&path, seats(1)).await.status, StatusCode::CREATED);
    all_is_written(&office).await;
    cut_off(&office.database).await;
    for _ in 0..20 {
        assert_eq!(office.customer().post(&path, seats(1)).await.status, StatusCode::CREATED);
    }
    let_in(&office.database).await;
    all_is_written(&office).await;
    assert_eq!(office.seats("held").await, 21);
    assert_eq!(office.reconciliation(&event).await["agrees"], true);
}

#[tokio::test]
async fn holds_that_an_instance_took_and_left_are_written_by_another() {
    let office = Office::open().await;
    let event = office.event(json!({"strategy": "redis"})).await;
    assert_eq!(
        office.customer().post(&format!("{event}/reservations"), seats(1)).await.status,
        StatusCode::CREATED
    );
    all_is_written(&office).await;
    let id = format!("00000001-0000-4000-8000-{:012}", 9);
    let now = shop_kit::clock::now().unix_timestamp() * 1000;
    let hold = format!("{id} {} 1 {} {now}", Uuid::new_v4(), now + 60_000);
    // In one transaction, so that no writer is faster than the instance that is about to die.
    let script = "redis.call('XADD', KEYS[1], '*', 'hold', ARGV[1]) \
                  redis.call('XREADGROUP', 'GROUP', 'writers', 'dead', 'STREAMS', KEYS[1], '>')";
    office.redis::<()>(&["EVAL", script, "1", "ticket:holds", &hold]).await;
    eventually("it is written", async || office.seats("held").await == 2).await;
    all_is_written(&office).await;
}
