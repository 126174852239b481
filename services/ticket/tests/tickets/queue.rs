//! The waiting queue: who comes first is let in first, at the rate of the event.

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};
use shop_kit::testing::{Http, RedisServer, eventually};

use crate::office::{Office, STRATEGIES, assert_problem, in_ms};

async fn join(customer: &Http, event: &str) -> Value {
    let reply = customer.post(&format!("{event}/queue"), json!({})).await;
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    reply.body
}

async fn reserve(customer: &Http, event: &str) -> shop_kit::testing::Reply {
    customer.post(&format!("{event}/reservations"), json!({})).await
}

/// Now, in milliseconds.
fn millis() -> i64 {
    i64::try_from(shop_kit::clock::now().unix_timestamp_nanos() / 1_000_000).unwrap()
}

#[tokio::test]
async fn who_waits_for_the_opening_is_let_in_in_order() {
    let office = Office::open().await;
    for strategy in STRATEGIES {
        let (now, opens) = (millis(), in_ms(4000));
        let fields = json!({"strategy": strategy, "admission_rate": 4, "opens": opens});
        let event = office.event(fields).await;
        let customers = [office.customer(), office.customer(), office.customer()];
        for (customer, position) in customers.iter().zip(1..) {
            let place = join(customer, &event).await;
            assert_eq!(
                (&place["position"], &place["admitted"]),
                (&json!(position), &json!(false)),
                "{place}"
            );
            // Who asks again keeps the place.
            assert_eq!(join(customer, &event).await["position"], position);
            // 4 per second: a quarter of a second between two. Measured after the answer, so never too early.
            let entry = millis() + place["estimated_wait_ms"].as_i64().unwrap();
            assert!(entry >= now + 4000 + 250 * (position - 1), "{place}");
        }
        assert_problem(&reserve(&customers[0], &event).await, 409, "sale-not-open");
        let (queue, mut let_in) = (format!("{event}/queue"), Vec::new());
        eventually("all are let in", async || {
            let places = join_all(customers.iter().map(|customer| customer.get(&queue))).await;
            let now: Vec<usize> = (0..3).filter(|i| places[*i].body["admitted"] == true).collect();
            let_in.extend(now.iter().filter(|i| !let_in.contains(*i)).copied().collect::<Vec<_>>());
            now.len() == 3
        })
        .await;
        assert_eq!(let_in, [0, 1, 2], "{strategy}");
        assert_eq!(reserve(&customers[2], &event).await.status, StatusCode::CREATED, "{strategy}");
    }
}

#[tokio::test]
async fn in_a_crowd_only_those_are_let_in_whose_turn_it_is() {
    let office = Office::open().await;
    for strategy in STRATEGIES {
        let event = office.event(json!({"strategy": strategy, "admission_rate": 1})).await;
        // Without a crowd nobody needs a place, and who is let in may come back.
        let first = office.customer();
        assert_eq!(reserve(&first, &event).await.status, StatusCode::CREATED, "{strategy}");
        assert_eq!(reserve(&first, &event).await.status, StatusCode::CREATED, "{strategy}");
        // Now the next one is due in a second.
        let (waiting, pushy) = (office.customer(), office.customer());
        assert_problem(&reserve(&pushy, &event).await, 409, "queue");
        assert_problem(&pushy.get(&format!("{event}/queue")).await, 404, "not-queued");
        assert_eq!(join(&waiting, &event).await["position"], 1);
        assert_problem(&reserve(&waiting, &event).await, 409, "waiting");
        eventually("it is the turn of who waits", async || {
            reserve(&waiting, &event).await.status == StatusCode::CREATED
        })
        .await;
        assert_eq!(office.left(&event).await, 7, "{strategy}");
    }
}

#[tokio::test]
async fn a_hundred_who_come_at_once_all_have_a_place_of_their_own() {
    let office = Office::open().await;
    let event = office.event(json!({"admission_rate": 10, "opens": in_ms(60_000)})).await;
    let customers: Vec<Http> = (0..100).map(|_| office.customer()).collect();
    let places = join_all(customers.iter().map(|customer| join(customer, &event))).await;
    let mut positions: Vec<u64> = places.iter().map(|place| place["position"].as_u64().unwrap()).collect();
    positions.sort_unstable();
    assert_eq!(positions, (1..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_event_without_a_queue_says_so_and_one_that_is_over_takes_nobody() {
    let office = Office::open().await;
    let plain = office.event(json!({})).await;
    assert_problem(&office.customer().post(&format!("{plain}/queue"), json!({})).await, 404, "no-queue");
    let over =
        office.event(json!({"admission_rate": 1, "opens": in_ms(-2000), "closes": in_ms(-1000)})).await;
    assert_problem(&office.customer().post(&format!("{over}/queue"), json!({})).await, 409, "sale-closed");
    assert_problem(&office.ticket.http.get(&format!("{over}/queue")).await, 401, "unauthenticated");
}

#[tokio::test]
async fn without_redis_the_database_sells_without_a_queue() {
    let server = RedisServer::start();
    let office = Office::open_with(&server.url(), &[]).await;
    let event = office.event(json!({"strategy": "postgres", "admission_rate": 1})).await;
    server.stop();
    for _ in 0..3 {
        assert_eq!(reserve(&office.customer(), &event).await.status, StatusCode::CREATED);
    }
    let in_redis = office.event(json!({"strategy": "redis"})).await;
    assert_problem(&reserve(&office.customer(), &in_redis).await, 503, "unavailable");
    server.resume();
    eventually("redis sells again", async || {
        reserve(&office.customer(), &in_redis).await.status == StatusCode::CREATED
    })
    .await;
}
