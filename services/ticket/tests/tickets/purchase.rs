//! Buying and cancelling with the real payment service: what is paid is sold once, and what is not is nobody's.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};
use shop_kit::testing::{Http, Reply, cut_off, eventually, let_in, redis};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::office::{Office, STRATEGIES, assert_problem, id_of, start_payment};

const STATUS_OF_REFUNDED: &str = "refunded";

fn pay(method: &str) -> Value {
    json!({ "method": method })
}

fn seats(quantity: i64) -> Value {
    json!({ "quantity": quantity })
}

async fn held(customer: &Http, event: &str, quantity: i64) -> String {
    id_of(&customer.post(&format!("{event}/reservations"), seats(quantity)).await)
}

async fn purchase(customer: &Http, id: &str, method: &str) -> Reply {
    customer.post(&format!("/tickets/{id}/purchase"), pay(method)).await
}

/// Status and amount of the payment for a ticket.
async fn payment(office: &Office, id: &str) -> Option<(String, i64)> {
    let mut connection = PgConnection::connect(&office.payments).await.unwrap();
    let sql = "SELECT status, amount FROM payments WHERE reference = 'ticket:' || $1";
    sqlx::query_as(sql).bind(id).fetch_optional(&mut connection).await.unwrap()
}

#[tokio::test]
async fn payment_is_told_which_ticket_it_was_for() {
    let office = Office::paying().await;
    let event = office.event(json!({"name": "Opera"})).await;
    let me = office.customer();
    let id = held(&me, &event, 2).await;
    assert_eq!(purchase(&me, &id, "tok_ok").await.body["status"], "sold");
    let mut connection = PgConnection::connect(&office.payments).await.unwrap();
    let sql = "SELECT id FROM payments WHERE reference = 'ticket:' || $1";
    let payment: Uuid = sqlx::query_scalar(sql).bind(&id).fetch_one(&mut connection).await.unwrap();
    let admin = office.payment.as_ref().unwrap().http.user(Uuid::from_u128(1), "admin");
    let purpose = admin.get(&format!("/payments/{payment}/purpose")).await.body;
    assert_eq!(
        purpose,
        json!({"reference": format!("ticket:{id}"), "status": "sold", "items": ["2 × Opera"]})
    );
}

#[tokio::test]
async fn a_held_ticket_is_paid_once_and_told_of() {
    let office = Office::paying().await;
    for strategy in STRATEGIES {
        let event = office.event(json!({"strategy": strategy})).await;
        let me = office.customer();
        let id = held(&me, &event, 2).await;
        assert_problem(&purchase(&me, &id, "").await, 422, "invalid");
        assert_problem(&purchase(&office.customer(), &id, "tok_ok").await, 404, "ticket-not-found");
        let replies = join_all((0..5).map(|_| purchase(&me, &id, "tok_ok"))).await;
        assert!(replies.iter().any(|reply| reply.body["status"] == "sold"), "{replies:?}");
        eventually("it is sold", async || me.get(&format!("/tickets/{id}")).await.body["status"] == "sold")
            .await;
        assert_eq!(purchase(&me, &id, "tok_ok").await.body["status"], "sold");
        assert_eq!(payment(&office, &id).await, Some(("captured".into(), 9000)));
        assert_eq!(office.left(&event).await, 8);
        eventually("it is told of", async || {
            office.told("ticket.purchased").await.iter().filter(|told| told["ticket_id"] == json!(id)).count()
                == 1
        })
        .await;
        let told = office.told("ticket.purchased").await.pop().unwrap();
        assert_eq!(
            (&told["event_name"], &told["price"], &told["currency"]),
            (&json!("Concert"), &json!(9000), &json!("EUR"))
        );
        assert_eq!(office.reconciliation(&event).await["agrees"], true);
    }
}

#[tokio::test]
async fn buying_in_one_call_is_once_for_a_key() {
    let office = Office::paying().await;
    for strategy in STRATEGIES {
        let event = office.event(json!({"strategy": strategy})).await;
        let path = format!("{event}/purchases");
        let me = office.customer().header("idempotency-key", "k1");
        let body = json!({"quantity": 3, "method": "tok_ok"});
        let replies = join_all((0..8).map(|_| me.post(&path, body.clone()))).await;
        let ids: BTreeSet<String> = replies.iter().map(id_of).collect();
        assert_eq!(ids.len(), 1, "{replies:?}");
        let sold = me.post(&path, body).await;
        assert_eq!((sold.status, &sold.body["status"]), (StatusCode::CREATED, &json!("sold")), "{sold:?}");
        assert_problem(&me.post(&path, json!({"quantity": 1, "method": "tok_ok"})).await, 409, "key-reused");
        assert_eq!(office.left(&event).await, 7, "{strategy}");
        assert_problem(&me.post(&path, json!({"quantity": -1, "method": "tok_ok"})).await, 422, "invalid");
        assert_problem(&me.post(&path, json!({"method": ""})).await, 422, "invalid");
    }
}

#[tokio::test]
async fn a_declined_payment_frees_the_seats() {
    let office = Office::paying().await;
    for strategy in STRATEGIES {
        let event = office.event(json!({"strategy": strategy, "capacity": 2})).await;
        let me = office.customer();
        let id = held(&me, &event, 2).await;
        let refused = purchase(&me, &id, "tok_declined").await;
        assert_problem(&refused, 409, "payment-declined");
        assert!(refused.body["detail"].as_str().unwrap().contains("card_declined"), "{refused:?}");
        assert_problem(&purchase(&me, &id, "tok_ok").await, 409, "payment-declined");
        assert_eq!(me.get(&format!("/tickets/{id}")).await.body["status"], "declined");
        eventually("its seats are free", async || office.left(&event).await == 2).await;
        let (other, body) = (office.customer(), json!({"quantity": 2, "method": "tok_ok"}));
        assert_eq!(other.post(&format!("{event}/purchases"), body).await.body["status"], "sold");
    }
}

#[tokio::test]
async fn a_sold_ticket_is_cancelled_when_the_money_is_back() {
    let office = Office::paying().await;
    for strategy in STRATEGIES {
        let event = office.event(json!({"strategy": strategy, "capacity": 2})).await;
        let me = office.customer();
        let id = held(&me, &event, 2).await;
        assert_eq!(purchase(&me, &id, "tok_ok").await.body["status"], "sold");
        let path = format!("/tickets/{id}/cancel");
        assert_problem(&office.customer().post(&path, json!({})).await, 404, "ticket-not-found");
        let replies = join_all((0..4).map(|_| me.post(&path, json!({})))).await;
        assert!(replies.iter().all(|reply| reply.status.is_success()), "{replies:?}");
        eventually("it is cancelled", async || {
            me.get(&format!("/tickets/{id}")).await.body["status"] == "cancelled"
        })
        .await;
        eventually("its seats are free", async || office.left(&event).await == 2).await;
        assert_eq!(payment(&office, &id).await, Some((STATUS_OF_REFUNDED.into(), 9000)), "{strategy}");
        assert_problem(&purchase(&me, &id, "tok_ok").await, 409, "wrong-status");
    }
}

#[tokio::test]
async fn a_payment_that_is_settled_later_settles_the_ticket() {
    let office = Office::paying_with(&redis().await, &["--settle-after", "1m"]).await;
    for strategy in STRATEGIES {
        let event = office.event(json!({"strategy": strategy, "capacity": 4})).await;
        for (method, becomes) in [("tok_callback", "sold"), ("tok_callback_declined", "declined")] {
            let me = office.customer();
            let bought =
                me.post(&format!("{event}/purchases"), json!({"quantity": 2, "method": method})).await;
            assert_eq!(
                (bought.status, &bought.body["status"]),
                (StatusCode::ACCEPTED, &json!("paying")),
                "{bought:?}"
            );
            let path = format!("/tickets/{}", id_of(&bought));
            eventually("it is settled by the event", async || me.get(&path).await.body["status"] == becomes)
                .await;
        }
        eventually("only one is sold", async || office.left(&event).await == 2).await;
    }
}

#[tokio::test]
async fn a_ticket_that_is_being_paid_does_not_expire_and_can_be_cancelled() {
    let office =
        Office::paying_with(&redis().await, &["--reservation-lifetime", "2s", "--abandoned-after", "1m"])
            .await;
    let event = office.event(json!({"strategy": "redis", "capacity": 4})).await;
    let me = office.customer();
    let paying =
        me.post(&format!("{event}/purchases"), json!({"quantity": 2, "method": "tok_callback"})).await;
    let expiring = held(&me, &event, 1).await;
    eventually("the other one has expired", async || {
        me.get(&format!("/tickets/{expiring}")).await.body["status"] == "expired"
    })
    .await;
    let path = format!("/tickets/{}", id_of(&paying));
    eventually("this one is sold", async || me.get(&path).await.body["status"] == "sold").await;
    // Redis learns of free seats a moment after the tables have them.
    eventually("its seat is free", async || office.left(&event).await == 2).await;

    let again =
        me.post(&format!("{event}/purchases"), json!({"quantity": 2, "method": "tok_callback"})).await;
    let id = id_of(&again);
    let cancelled = me.post(&format!("/tickets/{id}/cancel"), json!({})).await;
    assert!(cancelled.status.is_success(), "{cancelled:?}");
    eventually("it is cancelled", async || {
        me.get(&format!("/tickets/{id}")).await.body["status"] == "cancelled"
    })
    .await;
    eventually("its money is back", async || {
        payment(&office, &id).await.is_some_and(|(status, _)| status == STATUS_OF_REFUNDED)
    })
    .await;
    eventually("its seats are free", async || office.left(&event).await == 2).await;
}

#[tokio::test]
async fn what_a_crash_left_half_paid_is_settled_by_any_instance() {
    let office = Office::paying().await;
    let event = office.event(json!({"strategy": "redis"})).await;
    let me = office.customer();
    let (never, paid) = (held(&me, &event, 1).await, held(&me, &event, 2).await);
    assert_eq!(purchase(&me, &paid, "tok_ok").await.body["status"], "sold");
    eventually("both are written", async || {
        office.books().await.values().map(|(tickets, _)| tickets).sum::<i64>() == 2
    })
    .await;
    // One died before it asked for the money, one after it got it and before it said so.
    office.sql("UPDATE tickets SET status = 'paying', expires = now() - interval '1 minute'").await;
    eventually("who paid has the ticket", async || {
        me.get(&format!("/tickets/{paid}")).await.body["status"] == "sold"
    })
    .await;
    eventually("who did not has none", async || {
        me.get(&format!("/tickets/{never}")).await.body["status"] == "declined"
    })
    .await;
    eventually("its seat is free", async || office.left(&event).await == 8).await;
    // A payment that was on its way all the time comes too late.
    assert_eq!(payment(&office, &never).await, Some((STATUS_OF_REFUNDED.into(), 0)));
}

#[tokio::test]
async fn without_the_payment_service_nothing_is_sold_and_it_is_settled_when_it_is_back() {
    let mut office = Office::paying_with(&redis().await, &["--abandoned-after", "1m"]).await;
    let event = office.event(json!({"strategy": "postgres"})).await;
    let me = office.customer();
    let id = held(&me, &event, 1).await;
    let payment = office.payment.take().unwrap();
    let address = payment.grpc.strip_prefix("http://").unwrap().to_owned();
    payment.stop().await.unwrap();
    assert_problem(&purchase(&me, &id, "tok_ok").await, 503, "unavailable");
    assert_eq!(me.get(&format!("/tickets/{id}")).await.body["status"], "paying");
    let grpc = tokio::net::TcpListener::bind(&address).await.unwrap();
    office.payment = Some(start_payment(&office.payments, &office.redis, Some(grpc)).await);
    eventually("trying again pays", async || purchase(&me, &id, "tok_ok").await.body["status"] == "sold")
        .await;
    assert_eq!(office.left(&event).await, 9);
}

#[tokio::test]
async fn a_seat_that_redis_gave_away_wrongly_is_not_written_and_not_sold() {
    let office = Office::paying().await;
    let event = office.event(json!({"strategy": "redis", "capacity": 2})).await;
    let path = format!("{event}/reservations");
    let (me, other) = (office.customer(), office.customer());
    assert_eq!(me.post(&path, seats(2)).await.status, StatusCode::CREATED);
    eventually("all is written", async || office.redis::<u64>(&["XLEN", "ticket:holds"]).await == 0).await;
    // Redis is wrong about what is left, and nothing can be written: both think they have the seats.
    office.redis::<()>(&["HSET", "ticket:1", "left", "2"]).await;
    cut_off(&office.database).await;
    let id = id_of(&other.post(&path, seats(2)).await);
    let_in(&office.database).await;
    eventually("it is known to be lost", async || {
        let paid = other.post(&format!("/tickets/{id}/purchase"), json!({"method": "tok_ok"})).await;
        paid.body["type"] == "urn:problem:shop:reservation-lost"
            || paid.body["type"] == "urn:problem:shop:ticket-not-found"
    })
    .await;
    eventually("all is written", async || office.redis::<u64>(&["XLEN", "ticket:holds"]).await == 0).await;
    assert_eq!((office.seats("held").await, office.books().await.len()), (2, 1));
    assert!(office.told("payment.captured").await.is_empty());
}
