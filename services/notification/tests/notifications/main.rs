//! From an event in a stream to a message in the mailbox, with the real user service, Redis, PostgreSQL and SMTP.

#![allow(clippy::unwrap_used, reason = "test code")]

mod shop;

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::{Value, json};
use shop_kit::testing::{cut_off, documented, eventually, let_in};
use uuid::Uuid;

use shop::{Shop, event};

#[tokio::test]
async fn the_document_has_exactly_the_routes() {
    let shop = Shop::open().await;
    documented(&shop.service().http, &[include_str!("../../src/api/http.rs")]).await;
}

#[tokio::test]
async fn a_user_is_told_of_every_event_that_concerns_them() {
    let shop = Shop::open().await;
    let about = |amount: &str| {
        json!({"order_id": "o1", "ticket_id": "t1", "payment_id": "p1", "reference": "order/o1",
        "event_id": "e1", "event_name": "The Concert", amount: 2999, "currency": "EUR", "user_id": shop.customer})
    };
    let order = json!({"id": "o1", "user_id": shop.customer, "status": "pending", "total": 5998, "currency": "EUR",
        "items": [{"product_id": "p", "name": "Lamp", "price": 2999, "quantity": 2}]});
    let mut expect = BTreeMap::new();
    for (stream, data, subject) in [
        ("order.created", order, "We have your order of 59.98 EUR"),
        ("order.paid", about("total"), "Your order of 29.99 EUR is paid"),
        ("order.cancelled", about("total"), "Your order of 29.99 EUR is cancelled"),
        ("payment.captured", about("amount"), "Thank you for your payment of 29.99 EUR"),
        ("payment.declined", about("amount"), "Your payment of 29.99 EUR was declined"),
        ("payment.refunded", about("amount"), "We have paid 29.99 EUR back to you"),
        ("ticket.purchased", about("price"), "Your ticket for The Concert"),
        ("ticket.cancelled", about("price"), "Your ticket for The Concert is cancelled"),
        ("ticket.expired", about("price"), "Your reservation for The Concert has expired"),
    ] {
        let event = event(stream, data);
        shop.tell(&event).await;
        expect.insert(format!("{}.email@shop.example", event.id), subject.to_owned());
    }
    shop.until_mails(9).await;
    let mails = shop.mails();
    let subjects: BTreeMap<_, _> = mails.iter().map(|mail| (mail.id.clone(), mail.subject.clone())).collect();
    assert_eq!(subjects, expect);
    for mail in &mails {
        assert!(mail.text.starts_with("Hello Ann Ümlaut,\n"), "{}", mail.text);
        assert_eq!((mail.from.as_str(), mail.to[0].as_str()), ("shop@shop.example", "ann@example.com"));
        assert_eq!(mail.deliveries, 1);
    }
    eventually("all are known to be sent", async || shop.states().await == ["sent"; 9]).await;
    let list = shop.me().get("/notifications?per_page=2").await;
    assert_eq!((list.body["total"].as_u64(), list.body["items"].as_array().unwrap().len()), (Some(9), 2));
    let newest = &list.body["items"][0];
    assert_eq!((&newest["channel"], &newest["recipient"]), (&json!("email"), &json!("ann@example.com")));
    let stranger = shop.service().http.user(Uuid::new_v4(), "customer").get("/notifications").await;
    assert_eq!(stranger.body["total"], 0);
    assert_eq!(shop.service().http.get("/notifications").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_user_chooses_the_channels() {
    let shop = Shop::open().await;
    let path = "/notifications/preferences";
    assert_eq!(shop.me().get(path).await.body, json!({"email": true, "phone": null, "device": null}));
    for (bad, field) in [
        (json!({"email": true, "phone": "12"}), "phone"),
        (json!({"email": true, "device": "'; DROP TABLE preferences; --"}), "device"),
        (json!({"email": true, "phone": "+4915112345678\r\n"}), "phone"),
    ] {
        let refused = shop.me().put(path, bad.clone()).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
        assert_eq!(refused.body["errors"][0]["field"], field, "{bad}");
    }
    let unknown = shop.me().put(path, json!({"email": true, "fax": "1"})).await;
    assert_eq!(unknown.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(shop.me().get(path).await.body["email"], true, "what was refused changed nothing");

    let wanted = json!({"email": false, "phone": "+4915112345678", "device": "phone-1"});
    assert_eq!(shop.me().put(path, wanted.clone()).await.body, wanted);
    shop.tell(&shop.expired()).await;
    eventually("both came", async || shop.sent_by("sms").len() == 1 && shop.sent_by("push").len() == 1).await;
    assert_eq!(shop.sent_by("sms")[0].to, ["+4915112345678"]);
    assert_eq!(shop.sent_by("push")[0].subject, "Your reservation for The Concert has expired");
    assert!(shop.mails().is_empty());
}

#[tokio::test]
async fn what_cannot_be_sent_is_sent_when_the_server_is_back() {
    let mut shop = Shop::open().await;
    shop.close_mailbox().await;
    shop.tell(&shop.expired()).await;
    eventually("it was tried a few times", async || shop.tries().await >= 3).await;
    assert_eq!(shop.states().await, ["pending"]);
    shop.open_mailbox().await;
    shop.until_mails(1).await;
    eventually("it is known to be sent", async || shop.states().await == ["sent"]).await;
    assert_eq!(shop.mails()[0].deliveries, 1);
}

#[tokio::test]
async fn what_is_refused_for_good_fails_and_others_are_told() {
    let shop = Shop::open().await;
    let body = json!({"email": "bounce@example.com", "password": "correct horse", "name": "Bob"});
    let bob = shop.user.http.post("/users", body).await.body["id"].clone();
    let mut event = shop.expired();
    event.data["user_id"] = bob.clone();
    shop.tell(&event).await;
    eventually("others are told", async || shop.entries("notification.failed").await.len() == 1).await;
    let told: Value = serde_json::from_str(&shop.entries("notification.failed").await[0]["data"]).unwrap();
    assert_eq!((&told["event_id"], &told["user_id"]), (&json!(event.id), &bob));
    assert!(told["reason"].as_str().unwrap().contains("550"), "{told}");
    let bob = shop.service().http.user(bob.as_str().unwrap().parse().unwrap(), "customer");
    assert_eq!(bob.get("/notifications").await.body["items"][0]["state"], "failed");
}

#[tokio::test]
async fn an_event_that_makes_no_sense_is_dead_and_in_nobodys_way() {
    let shop = Shop::open().await;
    let poison = [
        json!({}),
        json!("text"),
        json!({"user_id": "'; DROP TABLE notifications; --"}),
        json!({"user_id": shop.customer}),
        json!({"user_id": shop.customer, "event_name": "x", "ticket_id": "t", "price": "free", "currency": "EUR"}),
        json!({"user_id": Uuid::new_v4(), "event_name": "x", "ticket_id": "t", "price": 1, "currency": "EUR"}),
    ];
    let dead = poison.len();
    for data in poison {
        shop.tell(&event("ticket.purchased", data)).await;
    }
    shop.tell(&shop.expired()).await;
    shop.until_mails(1).await;
    eventually("all are dead", async || shop.entries("ticket.purchased.dead").await.len() == dead).await;
    let reasons: Vec<_> =
        shop.entries("ticket.purchased.dead").await.iter().map(|entry| entry["reason"].clone()).collect();
    assert!(reasons[0].contains("whom it concerns"), "{reasons:?}");
    assert!(reasons[3].contains("cannot be filled in"), "{reasons:?}");
    assert!(reasons[5].contains("no such user"), "{reasons:?}");
    assert_eq!(shop.states().await.len(), 1);
}

#[tokio::test]
async fn an_event_that_comes_again_is_told_once() {
    let shop = Shop::open().await;
    let event = shop.expired();
    for _ in 0..5 {
        shop.tell(&event).await;
    }
    let last = shop.expired();
    shop.tell(&last).await;
    shop.until_mails(2).await;
    eventually("both are known to be sent", async || shop.states().await == ["sent"; 2]).await;
    assert!(shop.mails().iter().all(|mail| mail.deliveries == 1), "{:?}", shop.mails());
}

#[tokio::test]
async fn two_instances_share_the_work_and_double_nothing() {
    let shop = Shop::open().await;
    let other = shop.instance("notification-1").await;
    for _ in 0..60 {
        shop.tell(&shop.expired()).await;
    }
    shop.until_mails(60).await;
    assert!(shop.mails().iter().all(|mail| mail.deliveries == 1));
    other.stop().await.unwrap();
}

#[tokio::test]
async fn nothing_is_lost_while_the_database_is_away() {
    let shop = Shop::open().await;
    shop.tell(&shop.expired()).await;
    shop.until_mails(1).await;
    cut_off(&shop.database).await;
    shop.tell(&shop.expired()).await;
    eventually("it is DOWN", async || shop.service().health().await.1 == "DOWN").await;
    let_in(&shop.database).await;
    shop.until_mails(2).await;
    eventually("both are known to be sent", async || shop.states().await == ["sent"; 2]).await;
    assert!(shop.mails().iter().all(|mail| mail.deliveries == 1));
}

#[tokio::test]
async fn a_mail_that_may_or_may_not_have_arrived_comes_again_under_the_same_id() {
    let shop = Shop::open_behind_a_line_that_breaks().await;
    let event = shop.expired();
    shop.tell(&event).await;
    eventually("it is known to be sent", async || shop.states().await == ["sent"]).await;
    let mails = shop.mails();
    assert_eq!(mails.len(), 1, "one mail for those who know a Message-ID: {mails:?}");
    assert_eq!((mails[0].deliveries, &mails[0].id), (2, &format!("{}.email@shop.example", event.id)));
}

#[tokio::test]
async fn a_process_that_is_killed_again_and_again_loses_nothing_and_doubles_nothing() {
    let shop = Shop::open_without_service().await;
    let events: Vec<_> = (0..100).map(|_| shop.expired()).collect();
    let mut process = shop.process();
    for (number, event) in events.iter().enumerate() {
        shop.tell(event).await;
        if number % 25 == 24 {
            let so_far = number / 2;
            eventually("some are sent", async || shop.mails().len() > so_far).await;
            process.kill().unwrap();
            process.wait().unwrap();
            process = shop.process();
        }
    }
    shop.until_mails(100).await;
    eventually("all are known to be sent", async || shop.stored("sent").await == 100).await;
    process.kill().unwrap();
    process.wait().unwrap();
    let twice: u32 = shop.mails().iter().map(|mail| mail.deliveries - 1).sum();
    // At most those that were being sent at each of the four kills.
    assert!(twice <= 4 * 8, "{twice} came twice");
}
