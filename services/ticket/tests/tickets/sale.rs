//! Events and reservations, alike with both strategies.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, future::join_all, stream::iter};
use http::StatusCode;
use serde_json::{Value, json};
use shop_kit::testing::{Http, Reply, eventually};
use uuid::Uuid;

use crate::office::{Office, STRATEGIES, assert_problem, event, id_of, in_ms};

/// Requests of a crowd that are under way at once: no more than there are connections to the database, as who waits for
/// one for too long is told to come again.
const AT_ONCE: usize = 16;

fn seats(quantity: i64) -> Value {
    json!({ "quantity": quantity })
}

#[tokio::test]
async fn an_admin_adds_an_event_and_everybody_sees_it() {
    let office = Office::open().await;
    let refused = office.customer().post("/tickets/events", event(json!({}))).await;
    assert_problem(&refused, 403, "forbidden");
    assert_problem(
        &office.ticket.http.post("/tickets/events", event(json!({}))).await,
        401,
        "unauthenticated",
    );
    let wrong = office.admin().post("/tickets/events", event(json!({"capacity": -1, "name": ""}))).await;
    assert_problem(&wrong, 422, "invalid");
    assert_eq!(wrong.body["errors"].as_array().unwrap().len(), 2, "{wrong:?}");
    let huge = office.admin().post("/tickets/events", event(json!({"capacity": 1e30}))).await;
    assert_problem(&huge, 422, "invalid");

    for strategy in STRATEGIES {
        let path = office.event(json!({"strategy": strategy, "name": "'; DROP TABLE events; --"})).await;
        let shown = office.ticket.http.get(&path).await;
        assert_eq!((shown.status, &shown.body["left"]), (StatusCode::OK, &json!(10)), "{shown:?}");
        assert_eq!(shown.body["name"], "'; DROP TABLE events; --");
        assert_eq!(shown.body["strategy"], strategy);
    }
    let list = office.ticket.http.get("/tickets/events?per_page=1").await;
    assert_eq!((&list.body["total"], list.body["items"].as_array().unwrap().len()), (&json!(2), 1));
    assert_problem(&office.ticket.http.get("/tickets/events/1").await, 404, "not-found");
    let unknown = format!("/tickets/events/{}", Uuid::new_v4());
    assert_problem(&office.ticket.http.get(&unknown).await, 404, "event-not-found");
}

#[tokio::test]
async fn a_reservation_takes_its_seats_and_is_its_owners() {
    let office = Office::open().await;
    for strategy in STRATEGIES {
        let event = office.event(json!({"strategy": strategy})).await;
        let me = office.customer();
        let held = me.post(&format!("{event}/reservations"), seats(2)).await;
        assert_eq!(held.status, StatusCode::CREATED, "{held:?}");
        assert_eq!((&held.body["status"], &held.body["price"]), (&json!("held"), &json!(9000)));
        assert_eq!(office.left(&event).await, 8);
        let path = format!("/tickets/{}", id_of(&held));
        assert_eq!(me.get(&path).await.body, held.body);
        assert_eq!(office.admin().get(&path).await.body, held.body);
        assert_problem(&office.customer().get(&path).await, 404, "ticket-not-found");
        // With Redis the tables learn of it a moment later.
        eventually("it is among the customer's tickets", async || {
            me.get("/tickets").await.body["items"] == json!([held.body])
        })
        .await;

        let cancelled = me.post(&format!("{path}/cancel"), json!({})).await;
        assert_eq!((cancelled.status, &cancelled.body["status"]), (StatusCode::OK, &json!("cancelled")));
        // Another instance, or what goes on by itself, may be the one that tells Redis.
        eventually("its seats are free", async || office.left(&event).await == 10).await;
        assert_eq!(me.post(&format!("{path}/cancel"), json!({})).await.body, cancelled.body);
        assert_eq!(office.left(&event).await, 10, "{strategy}");
    }
    eventually("both are told of", async || office.told("ticket.cancelled").await.len() == 2).await;
}

#[tokio::test]
async fn a_cancellation_that_is_faster_than_the_writer_stays_one() {
    let office = Office::open().await;
    let event = office.event(json!({"strategy": "redis", "capacity": 50, "per_user_limit": 50})).await;
    let me = office.customer();
    let cancelled = join_all((0..50).map(async |_| {
        let id = id_of(&me.post(&format!("{event}/reservations"), seats(1)).await);
        me.post(&format!("/tickets/{id}/cancel"), json!({})).await
    }))
    .await;
    assert!(cancelled.iter().all(|reply| reply.body["status"] == "cancelled"), "{cancelled:?}");
    eventually("the stream is empty", async || office.redis::<u64>(&["XLEN", "ticket:holds"]).await == 0)
        .await;
    assert_eq!((office.seats("cancelled").await, office.seats("held").await), (50, 0));
    assert_eq!(office.reconciliation(&event).await["agrees"], true);
    assert_eq!(office.left(&event).await, 50);
}

#[tokio::test]
async fn what_cannot_be_reserved_is_refused_by_name_and_changes_nothing() {
    let office = Office::open().await;
    for strategy in STRATEGIES {
        let on_sale = office.event(json!({"strategy": strategy, "per_user_limit": 3, "capacity": 4})).await;
        let early = office.event(json!({"strategy": strategy, "opens": in_ms(60_000)})).await;
        let late =
            office.event(json!({"strategy": strategy, "opens": in_ms(-9000), "closes": in_ms(-1)})).await;
        let nowhere = format!("/tickets/events/{}", Uuid::new_v4());
        let (me, other) = (office.customer(), office.customer());
        assert_eq!(
            other.post(&format!("{on_sale}/reservations"), seats(3)).await.status,
            StatusCode::CREATED
        );
        for (event, body, status, slug) in [
            (&on_sale, seats(0), 422, "invalid"),
            (&on_sale, seats(-1), 422, "invalid"),
            (&on_sale, seats(i64::MIN), 422, "invalid"),
            (&on_sale, seats(i64::from(i32::MAX) + 1), 422, "invalid"),
            (&on_sale, seats(i64::MAX), 422, "invalid"),
            (&on_sale, json!({"quantity": 1e300}), 422, "invalid"),
            (&on_sale, json!({"quantity": "1; DROP TABLE tickets"}), 422, "invalid"),
            (&on_sale, json!({"quantity": "redis.call('FLUSHALL')"}), 422, "invalid"),
            (&on_sale, json!(7), 422, "invalid"),
            (&on_sale, seats(2), 409, "sold-out"),
            (&early, seats(1), 409, "sale-not-open"),
            (&late, seats(1), 409, "sale-closed"),
            (&nowhere, seats(1), 404, "event-not-found"),
        ] {
            assert_problem(&me.post(&format!("{event}/reservations"), body).await, status, slug);
        }
        let again = other.post(&format!("{on_sale}/reservations"), seats(1)).await;
        assert_problem(&again, 409, "limit-reached");
        let nobody = office.ticket.http.post(&format!("{on_sale}/reservations"), seats(1)).await;
        assert_problem(&nobody, 401, "unauthenticated");
        for key in ["", "x".repeat(201).as_str()] {
            let keyed = me.header("idempotency-key", key);
            assert_problem(&keyed.post(&format!("{on_sale}/reservations"), seats(1)).await, 422, "invalid");
        }
        assert_eq!(office.left(&on_sale).await, 1, "{strategy}");
        assert_eq!(me.get("/tickets").await.body["total"], 0);
        assert_eq!(office.reconciliation(&on_sale).await["agrees"], true, "{strategy}");
    }
}

#[tokio::test]
async fn words_of_sql_and_lua_in_a_key_are_a_key() {
    let office = Office::open().await;
    let nasty = ["'; DROP TABLE tickets; --", "\"]] redis.call('FLUSHALL') --[[", "$1 {} %s *"];
    for strategy in STRATEGIES {
        let event = office.event(json!({"strategy": strategy})).await;
        let path = format!("{event}/reservations");
        let mut tickets = BTreeSet::new();
        for key in nasty {
            let me = office.customer().header("idempotency-key", key);
            tickets.insert(id_of(&me.post(&path, seats(1)).await));
        }
        assert_eq!((tickets.len(), office.left(&event).await), (3, 7), "{strategy}");
    }
}

#[tokio::test]
async fn the_same_key_is_the_same_ticket_however_often_it_is_sent_at_once() {
    let office = Office::open().await;
    for strategy in STRATEGIES {
        let event = office.event(json!({"strategy": strategy})).await;
        let path = format!("{event}/reservations");
        let me = office.customer().header("idempotency-key", "k1");
        let replies = join_all((0..20).map(|_| me.post(&path, seats(2)))).await;
        assert!(replies.iter().all(|reply| reply.status == StatusCode::CREATED), "{replies:?}");
        let ids: BTreeSet<String> = replies.iter().map(id_of).collect();
        assert_eq!((ids.len(), office.left(&event).await), (1, 8), "{strategy}");
        assert_problem(&me.post(&path, seats(1)).await, 409, "key-reused");
        // The key is the customer's and the event's own.
        let other = office.customer().header("idempotency-key", "k1");
        assert!(!ids.contains(&id_of(&other.post(&path, seats(2)).await)));
        let id = ids.first().unwrap();
        assert_eq!(me.post(&format!("/tickets/{id}/cancel"), json!({})).await.body["status"], "cancelled");
        let again = me.post(&path, seats(2)).await;
        assert_eq!((&id_of(&again), &again.body["status"]), (id, &json!("cancelled")), "{strategy}");
        eventually("its seats are free", async || office.left(&event).await == 8).await;
    }
}

#[tokio::test]
async fn a_reservation_that_is_not_paid_in_time_is_given_back_and_told_of() {
    let office =
        Office::open_with(&shop_kit::testing::redis().await, &["--reservation-lifetime", "2s"]).await;
    for strategy in STRATEGIES {
        let event = office.event(json!({"strategy": strategy, "capacity": 2})).await;
        let (me, other) = (office.customer().header("idempotency-key", "k1"), office.customer());
        let path = format!("{event}/reservations");
        let id = id_of(&me.post(&path, seats(2)).await);
        assert_problem(&other.post(&path, seats(1)).await, 409, "sold-out");
        eventually("the seats are free again", async || office.left(&event).await == 2).await;
        let late = me.post(&format!("/tickets/{id}/purchase"), json!({"method": "tok_ok"})).await;
        assert_problem(&late, 409, "expired");
        assert_problem(&me.post(&format!("/tickets/{id}/cancel"), json!({})).await, 409, "wrong-status");
        assert_eq!(me.post(&path, seats(2)).await.body["status"], "expired");
        assert_eq!(other.post(&path, seats(2)).await.status, StatusCode::CREATED, "{strategy}");
        eventually("it is told of", async || {
            office.told("ticket.expired").await.iter().any(|told| told["ticket_id"] == json!(id))
        })
        .await;
    }
}

/// A crowd without kills: 400 customers who want 1 to 3 of 100 seats, through two instances.
#[tokio::test]
async fn no_seat_is_held_twice_by_a_crowd() {
    let office = Office::open().await;
    let second = crate::office::start(&office.database, &office.redis, "http://127.0.0.1:9", &[]).await;
    let instances = [&office.ticket.http, &second.http];
    for strategy in STRATEGIES {
        let event = office.event(json!({"strategy": strategy, "capacity": 100, "per_user_limit": 3})).await;
        let asks = (0..400).map(|i| ask(instances[i % 2].user(Uuid::new_v4(), "customer"), &event, i));
        let replies: Vec<Reply> = iter(asks).buffer_unordered(AT_ONCE).collect().await;
        let held: i64 = replies.iter().filter_map(|reply| reply.body["quantity"].as_i64()).sum();
        let refused = |reply: &&Reply| reply.body["type"] == "urn:problem:shop:sold-out";
        let others: Vec<_> =
            replies.iter().filter(|r| r.status != StatusCode::CREATED && !refused(r)).collect();
        assert!(others.is_empty(), "{strategy}: {others:?}");
        // A customer who wants one seat takes the last one, so none stays.
        assert_eq!((held, office.left(&event).await), (100, 0), "{strategy}");
        eventually("all is written", async || office.reconciliation(&event).await["unwritten"] == 0).await;
        let report = office.reconciliation(&event).await;
        assert_eq!((&report["agrees"], &report["in_postgres"]), (&json!(true), &json!(100)), "{report}");
    }
}

/// Customer number `i` asks for one, two or three seats.
async fn ask(customer: Http, event: &str, i: usize) -> Reply {
    customer.post(&format!("{event}/reservations"), json!({"quantity": i % 3 + 1})).await
}
