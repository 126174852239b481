//! Payments from the call to the event and to the money that moved at the provider, with its failures and delays.

#![allow(clippy::unwrap_used, reason = "test code")]

use clap::Parser as _;
use futures_util::future::join_all;
use http::StatusCode;
use redis::{cmd, streams::StreamRangeReply};
use serde_json::{Value, json};
use shop_kit::{
    clock,
    pb::payment::{
        GetPaymentRequest, PayRequest, Payment, PaymentStatus, RefundRequest,
        payment_service_client::PaymentServiceClient,
    },
    redis::Redis,
    testing::{Http, Reply, Running, database, documented, eventually, redis as redis_database},
};
use shop_payment::{settings::Settings, signature::Key};
use sqlx::{Connection as _, PgConnection};
use time::Duration;
use tonic::{Code, transport::Channel};
use uuid::Uuid;

const SECRET: &str = "whsec_test";

/// The service, and what is behind it.
struct Desk {
    running: Running,
    database: String,
    redis: String,
    customer: Uuid,
}

impl Desk {
    async fn open(more: &[&str]) -> Self {
        let (database, redis) = (database().await, redis_database().await);
        let running = start(&database, &redis, more).await;
        Self { running, database, redis, customer: Uuid::new_v4() }
    }

    fn grpc(&self) -> PaymentServiceClient<Channel> {
        PaymentServiceClient::new(self.running.channel())
    }

    fn demand(&self, reference: &str, method: &str) -> PayRequest {
        PayRequest {
            reference: reference.into(),
            user_id: self.customer.to_string(),
            amount: 1999,
            currency: "EUR".into(),
            method: method.into(),
        }
    }

    async fn pay(&self, reference: &str, method: &str) -> Payment {
        self.grpc().pay(self.demand(reference, method)).await.unwrap().into_inner()
    }

    async fn refund(&self, reference: &str) -> Payment {
        self.grpc().refund(RefundRequest { reference: reference.into() }).await.unwrap().into_inner()
    }

    async fn get(&self, reference: &str) -> Payment {
        let request = GetPaymentRequest { reference: reference.into() };
        self.grpc().get_payment(request).await.unwrap().into_inner()
    }

    async fn becomes(&self, reference: &str, status: PaymentStatus) {
        eventually(&format!("{reference} is {status:?}"), async || {
            self.get(reference).await.status() == status
        })
        .await;
    }

    /// The movements of money of a payment at the provider.
    async fn moved(&self, id: &str) -> Vec<i64> {
        let id: Uuid = id.parse().unwrap();
        let mut row = PgConnection::connect(&self.database).await.unwrap();
        let sql = "SELECT amount FROM provider.movements WHERE charge = $1 ORDER BY position";
        sqlx::query_scalar(sql).bind(id).fetch_all(&mut row).await.unwrap()
    }

    /// The events of a stream.
    async fn told(&self, stream: &str) -> Vec<Value> {
        let redis = Redis::new(self.redis.parse().unwrap()).unwrap();
        let all = redis.run::<StreamRangeReply>(cmd("XRANGE").arg(stream).arg("-").arg("+")).await.unwrap();
        let data = |text: Option<String>| serde_json::from_str(&text.unwrap()).unwrap();
        all.ids.iter().map(|entry| data(entry.get("data"))).collect()
    }

    async fn told_references(&self, stream: &str) -> Vec<String> {
        let name = |event: &Value| event["reference"].as_str().unwrap().to_owned();
        self.told(stream).await.iter().map(name).collect()
    }

    async fn sum(&self, stream: &str) -> i64 {
        self.told(stream).await.iter().map(|event| event["amount"].as_i64().unwrap()).sum()
    }

    async fn pay_and_refund_every_third(&self, number: usize, method: &str) {
        let reference = format!("order:{number}");
        self.pay(&reference, method).await;
        if number.is_multiple_of(3) {
            self.refund(&reference).await;
        }
    }

    async fn call_back(&self, body: &Value, signature: &str) -> Reply {
        let client = self.running.http.header("provider-signature", signature);
        client.post("/payments/callback", body.clone()).await
    }

    fn callback(payment: &Payment) -> Value {
        json!({"id": "evt_1", "type": "charge.captured", "payment": payment.id, "amount": 1999, "currency": "EUR"})
    }
}

fn settings(database: &str, redis: &str, more: &[&str]) -> Settings {
    let mut words = vec!["payment", "--database-url", database, "--redis-url", redis];
    words.extend(["--sweep-every", "100ms", "--callback-secret", SECRET]);
    for quick in [["--provider-delay", "0s"], ["--provider-timeout", "500ms"]] {
        words.extend(quick.into_iter().filter(|_| !more.contains(&quick[0])));
    }
    Settings::parse_from([&words, more].concat())
}

async fn start(database: &str, redis: &str, more: &[&str]) -> Running {
    let settings = settings(database, redis, more);
    Running::start(|listeners, shutdown| shop_payment::serve(settings, listeners, shutdown)).await
}

fn sign(body: &Value) -> String {
    Key::new(SECRET.as_bytes()).sign(body.to_string().as_bytes(), clock::now())
}

#[tokio::test]
async fn the_api_is_described() {
    let desk = Desk::open(&[]).await;
    documented(&desk.running.http, &[include_str!("../src/api/http.rs")]).await;
    assert!(desk.running.reflected().await.contains(&"shop.payment.v1.PaymentService".to_owned()));
}

#[tokio::test]
async fn a_reference_is_paid_once_and_refunded_once_and_the_others_are_told() {
    let desk = Desk::open(&[]).await;
    let paid = desk.pay("order:1", "tok_ok").await;
    assert_eq!((paid.status(), paid.amount, paid.currency.as_str()), (PaymentStatus::Captured, 1999, "EUR"));
    let again = join_all((0..8).map(|_| desk.pay("order:1", "tok_ok"))).await;
    assert!(again.iter().all(|payment| *payment == paid), "{again:?}");
    assert_eq!(desk.moved(&paid.id).await, [1999]);

    let refunds = join_all((0..8).map(|_| desk.refund("order:1"))).await;
    assert!(refunds.iter().any(|refund| refund.status() == PaymentStatus::Refunded), "{refunds:?}");
    desk.becomes("order:1", PaymentStatus::Refunded).await;
    assert_eq!(desk.get("order:1").await.amount, 1999);
    assert_eq!(desk.moved(&paid.id).await, [1999, -1999]);
    let refused = desk.grpc().pay(desk.demand("order:1", "tok_ok")).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");

    eventually("both events are published", async || !desk.told("payment.refunded").await.is_empty()).await;
    let expect = json!({
        "payment_id": paid.id, "reference": "order:1", "user_id": desk.customer, "amount": 1999, "currency": "EUR"
    });
    assert_eq!(desk.told("payment.captured").await, std::slice::from_ref(&expect));
    assert_eq!(desk.told("payment.refunded").await, [expect]);
}

#[tokio::test]
async fn the_same_reference_at_the_same_time_is_charged_once() {
    let desk = Desk::open(&["--provider-delay", "50ms"]).await;
    let paid = join_all((0..20).map(|_| desk.pay("ticket:1", "tok_ok"))).await;
    desk.becomes("ticket:1", PaymentStatus::Captured).await;
    assert!(paid.iter().all(|payment| payment.id == paid[0].id), "{paid:?}");
    assert_eq!(desk.moved(&paid[0].id).await, [1999]);
}

#[tokio::test]
async fn every_mood_of_the_provider_ends_in_one_charge_or_none() {
    use PaymentStatus::{Captured, Declined, Pending};
    let desk = Desk::open(&["--callback-delay", "0s"]).await;
    for (method, first, last, reason, moved) in [
        ("tok_ok", Captured, Captured, "", vec![1999]),
        ("tok_declined", Declined, Declined, "card_declined", vec![]),
        ("tok_insufficient", Declined, Declined, "insufficient_funds", vec![]),
        ("4242 4242 4242 4242", Declined, Declined, "unknown_method", vec![]),
        // Charged, and the answer was lost; failed at first; too slow at first; told by a callback.
        ("tok_timeout", Pending, Captured, "", vec![1999]),
        ("tok_flaky", Pending, Captured, "", vec![1999]),
        ("tok_callback", Pending, Captured, "", vec![1999]),
        ("tok_callback_declined", Pending, Declined, "card_declined", vec![]),
    ] {
        let paid = desk.pay(method, method).await;
        assert_eq!(paid.status(), first, "{method}");
        desk.becomes(method, last).await;
        assert_eq!(desk.get(method).await.reason, reason, "{method}");
        assert_eq!(desk.moved(&paid.id).await, moved, "{method}");
    }
    eventually("all are told of, each once", async || {
        let count = async |stream| desk.told_references(stream).await.len();
        (count("payment.captured").await, count("payment.declined").await) == (4, 4)
    })
    .await;
}

#[tokio::test]
async fn a_slow_provider_is_waited_for() {
    let desk = Desk::open(&["--provider-timeout", "5s"]).await;
    assert_eq!(desk.pay("order:1", "tok_slow").await.status(), PaymentStatus::Captured);
}

#[tokio::test]
async fn what_was_taken_back_before_it_came_is_refused_when_it_comes() {
    let desk = Desk::open(&[]).await;
    let taken = desk.refund("order:1").await;
    assert_eq!((taken.status(), taken.amount), (PaymentStatus::Refunded, 0));
    let refused = desk.grpc().pay(desk.demand("order:1", "tok_ok")).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(desk.moved(&taken.id).await.is_empty());
    assert!(desk.told("payment.refunded").await.is_empty(), "no money moved");
}

#[tokio::test]
async fn what_is_taken_back_while_it_is_pending_costs_nothing_in_the_end() {
    let desk = Desk::open(&["--callback-delay", "1h"]).await;
    for (reference, method, moved) in [
        ("not charged yet", "tok_callback", vec![]),
        ("charged, and nobody knows", "tok_timeout", vec![1999, -1999]),
        ("failing both ways", "tok_flaky", vec![]),
        ("declined", "tok_declined", vec![]),
    ] {
        let paid = desk.pay(reference, method).await;
        let last = if method == "tok_declined" { PaymentStatus::Declined } else { PaymentStatus::Refunded };
        desk.refund(reference).await;
        desk.becomes(reference, last).await;
        assert_eq!(desk.moved(&paid.id).await, moved, "{reference}");
        let sum: i64 = moved.iter().sum();
        assert_eq!(sum, 0, "{reference}");
    }
    // Whoever adds up the events gets the same books.
    eventually("both sides are told", async || {
        desk.told_references("payment.refunded").await == ["charged, and nobody knows"]
    })
    .await;
    assert_eq!(desk.told_references("payment.captured").await, ["charged, and nobody knows"]);
}

#[tokio::test]
async fn a_demand_that_makes_no_sense_is_refused_and_leaves_nothing() {
    let desk = Desk::open(&[]).await;
    let good = desk.demand("order:1", "tok_ok");
    for (what, bad) in [
        ("nothing", PayRequest { amount: 0, ..good.clone() }),
        ("less than nothing", PayRequest { amount: -1999, ..good.clone() }),
        ("more than can be counted", PayRequest { amount: i64::MAX, ..good.clone() }),
        ("an unknown currency", PayRequest { currency: "XTS".into(), ..good.clone() }),
        ("a currency in small letters", PayRequest { currency: "eur".into(), ..good.clone() }),
        ("nobody", PayRequest { user_id: "1; DROP TABLE payments".into(), ..good.clone() }),
        ("no reference", PayRequest { reference: String::new(), ..good.clone() }),
        ("a reference with a NUL", PayRequest { reference: "a\0".into(), ..good.clone() }),
        ("no method", PayRequest { method: String::new(), ..good.clone() }),
    ] {
        let status = desk.grpc().pay(bad).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status:?}");
    }
    let request = GetPaymentRequest { reference: "order:1".into() };
    assert_eq!(desk.grpc().get_payment(request).await.unwrap_err().code(), Code::NotFound);

    desk.grpc().pay(good.clone()).await.unwrap();
    for (what, other) in [
        ("another amount", PayRequest { amount: 2000, ..good.clone() }),
        ("another currency", PayRequest { currency: "USD".into(), ..good.clone() }),
        ("another customer", PayRequest { user_id: Uuid::new_v4().to_string(), ..good.clone() }),
    ] {
        let status = desk.grpc().pay(other).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status:?}");
    }
    assert_eq!(desk.get("order:1").await.amount, 1999);
    let injection = "'; DELETE FROM payments; --";
    assert_eq!(desk.pay(injection, "tok_ok").await.reference, injection);
    assert_eq!(desk.get("order:1").await.status(), PaymentStatus::Captured);
}

#[tokio::test]
async fn a_callback_counts_once_and_only_if_the_provider_made_it() {
    let desk = Desk::open(&["--callback-delay", "1h"]).await;
    // The sweeper hears the same from the provider; only the callback can make it captured here.
    let paid = desk.pay("order:1", "tok_callback").await;
    let body = Desk::callback(&paid);
    let mut other = body.clone();
    other["amount"] = json!(1);
    let mut unknown = body.clone();
    unknown["payment"] = json!(Uuid::new_v4());
    let late =
        Key::new(SECRET.as_bytes()).sign(body.to_string().as_bytes(), clock::now() - Duration::minutes(6));
    let forged = Key::new(b"guessed").sign(body.to_string().as_bytes(), clock::now());
    for (what, body, signature, expect, slug) in [
        ("not signed", &body, "", StatusCode::UNAUTHORIZED, "bad-signature"),
        ("forged", &body, forged.as_str(), StatusCode::UNAUTHORIZED, "bad-signature"),
        ("late", &body, late.as_str(), StatusCode::UNAUTHORIZED, "bad-signature"),
        ("changed", &other, sign(&body).as_str(), StatusCode::UNAUTHORIZED, "bad-signature"),
        ("about other money", &other, sign(&other).as_str(), StatusCode::CONFLICT, "amount-mismatch"),
        ("about nothing", &unknown, sign(&unknown).as_str(), StatusCode::NOT_FOUND, "payment-not-found"),
        (
            "no callback",
            &json!({"id": 1}),
            sign(&json!({"id": 1})).as_str(),
            StatusCode::BAD_REQUEST,
            "malformed",
        ),
    ] {
        let reply = desk.call_back(body, signature).await;
        assert_eq!(reply.status, expect, "{what}: {reply:?}");
        assert_eq!(reply.body["type"], format!("urn:problem:shop:{slug}"), "{what}");
        assert_eq!(desk.get("order:1").await.status(), PaymentStatus::Pending, "{what}");
    }

    let signature = sign(&body);
    let first = desk.call_back(&body, &signature).await;
    assert_eq!((first.status, &first.body["heard"]), (StatusCode::OK, &json!("now")));
    assert_eq!(desk.get("order:1").await.status(), PaymentStatus::Captured);
    let replayed = desk.call_back(&body, &signature).await;
    assert_eq!((replayed.status, &replayed.body["heard"]), (StatusCode::OK, &json!("before")));
    // One that comes after all was settled otherwise is heard, and changes nothing.
    let mut contrary = body.clone();
    (contrary["id"], contrary["type"]) = (json!("evt_2"), json!("charge.declined"));
    assert_eq!(desk.call_back(&contrary, &sign(&contrary)).await.status, StatusCode::OK);
    assert_eq!(desk.get("order:1").await.status(), PaymentStatus::Captured);
    eventually("it is told", async || !desk.told("payment.captured").await.is_empty()).await;
    assert_eq!(desk.told("payment.captured").await.len(), 1);
}

#[tokio::test]
async fn customers_see_their_own_payments_and_only_an_admin_refunds() {
    let desk = Desk::open(&[]).await;
    let paid = desk.pay("order:1", "tok_ok").await;
    let as_user = |id: Uuid, role: &str| -> Http { desk.running.http.user(id, role) };
    let (me, stranger) = (as_user(desk.customer, "customer"), as_user(Uuid::new_v4(), "customer"));
    let admin = as_user(Uuid::new_v4(), "admin");
    let path = format!("/payments/{}", paid.id);
    let shown = me.get(&path).await;
    assert_eq!((shown.status, &shown.body["status"]), (StatusCode::OK, &json!("captured")), "{shown:?}");
    assert!(shown.body.get("method").is_none(), "{shown:?}");
    assert_eq!(me.get("/payments").await.body["items"], json!([shown.body]));
    assert_eq!(stranger.get(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(stranger.get("/payments").await.body["total"], 0);
    assert_eq!(desk.running.http.get("/payments").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(admin.get(&path).await.status, StatusCode::OK);

    let refund = format!("{path}/refund");
    assert_eq!(me.post(&refund, json!({})).await.status, StatusCode::FORBIDDEN);
    for _ in 0..2 {
        let refunded = admin.post(&refund, json!({})).await;
        assert_eq!((refunded.status, &refunded.body["status"]), (StatusCode::OK, &json!("refunded")));
    }
    assert_eq!(desk.moved(&paid.id).await, [1999, -1999]);
    let unknown = admin.post(&format!("/payments/{}/refund", Uuid::new_v4()), json!({})).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn with_a_provider_that_fails_a_third_of_the_time_the_books_are_right_in_the_end() {
    // Failures in a row are left to chance, so they must not make the waits grow without end.
    let failing = ["--provider-failures", "0.34", "--longest-wait", "500ms"];
    let desk = Desk::open(&[&failing[..], &["--callback-delay", "0s"]].concat()).await;
    let second = start(&desk.database, &desk.redis, &failing).await;
    let mut other = PaymentServiceClient::new(second.channel());
    let methods = ["tok_ok", "tok_flaky", "tok_declined", "tok_callback", "tok_timeout"];
    join_all((0..60).map(|i| desk.pay_and_refund_every_third(i, methods[i % 5]))).await;
    for i in 0..60 {
        let reference = format!("order:{i}");
        eventually(&format!("{reference} is settled"), async || {
            let request = GetPaymentRequest { reference: reference.clone() };
            let status = other.get_payment(request).await.unwrap().into_inner().status();
            !matches!(status, PaymentStatus::Pending | PaymentStatus::Refunding)
        })
        .await;
        let payment = desk.get(&reference).await;
        let moved = desk.moved(&payment.id).await;
        let expect: i64 = if payment.status() == PaymentStatus::Captured { 1999 } else { 0 };
        assert_eq!(moved.iter().sum::<i64>(), expect, "{payment:?} {moved:?}");
        assert!(moved.len() <= 2, "{payment:?} {moved:?}");
        assert!(i % 3 != 0 || expect == 0, "{payment:?}");
    }
    // The events add up to the same books, and each came once.
    let mut row = PgConnection::connect(&desk.database).await.unwrap();
    let sql = "SELECT sum(amount)::bigint FROM provider.movements";
    let truth: i64 = sqlx::query_scalar(sql).fetch_one(&mut row).await.unwrap();
    eventually("the events add up to the money that moved", async || {
        desk.sum("payment.captured").await - desk.sum("payment.refunded").await == truth
    })
    .await;
}
