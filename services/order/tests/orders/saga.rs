//! The saga: every step that can fail, fails; every moment at which a process can die, it dies. Stock and money end where
//! they belong, and everybody is told once.

use futures_util::future::join_all;
use http::StatusCode;
use redis::cmd;
use serde_json::json;
use shop_kit::{
    pb::payment::{PayRequest, RefundRequest, payment_service_client::PaymentServiceClient},
    redis::Redis,
    testing::{eventually, redis as redis_database},
};
use shop_order::{
    domain::history::Fact,
    store::{StoreError, history::append},
};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::shop::{Shop, id_of, items, paying};

fn problem(slug: &str) -> String {
    format!("urn:problem:shop:{slug}")
}

/// The only order of the customer.
async fn only_order(shop: &Shop) -> String {
    let list = shop.me().get("/orders").await.body;
    assert_eq!(list["total"], 1, "{list}");
    list["items"][0]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_order_with_a_means_of_payment_is_paid_at_once() {
    let shop = Shop::open().await;
    let lamp = shop.add(1999, 5).await;
    let placed = shop.me().post("/orders", paying(&[(lamp, 2)], "tok_ok")).await;
    assert_eq!((placed.status, &placed.body["status"]), (StatusCode::CREATED, &json!("paid")), "{placed:?}");
    let id = id_of(&placed);
    assert_eq!(shop.moved(&id).await, [3998]);
    assert_eq!(shop.history(&id).await, ["placed", "reserved", "payment_requested", "paid"]);
    eventually("it is told", async || shop.told("order.paid").await.len() == 1).await;
    let expect = json!({"order_id": id, "user_id": shop.customer, "total": 3998, "currency": "EUR"});
    assert_eq!(shop.told("order.paid").await, [expect]);
    // The event of the payment comes later and changes nothing.
    eventually("the event was heard", async || heard(&shop).await == 1).await;
    assert_eq!(shop.order(&id).await["status"], "paid");
    shop.books_agree(lamp, 5).await;
}

#[tokio::test]
async fn an_order_without_one_waits_until_it_is_paid() {
    let shop = Shop::open().await;
    let lamp = shop.add(1999, 5).await;
    let id = id_of(&shop.me().post("/orders", items(&[(lamp, 1)])).await);
    assert_eq!(shop.order(&id).await["status"], "pending");
    let path = format!("/orders/{id}/pay");
    let stranger = shop.order.http.user(Uuid::new_v4(), "customer");
    let method = json!({"method": "tok_ok"});
    assert_eq!(stranger.post(&path, method.clone()).await.status, StatusCode::NOT_FOUND);
    let nothing = shop.me().post(&path, json!({"method": ""})).await;
    assert_eq!(nothing.status, StatusCode::UNPROCESSABLE_ENTITY, "{nothing:?}");
    let me = shop.me();
    let paid = join_all((0..5).map(|_| me.post(&path, method.clone()))).await;
    for reply in &paid {
        let busy = reply.body["type"] == problem("being-paid");
        assert!(busy || reply.body["status"] == "paid", "{reply:?}");
    }
    shop.becomes(&id, "paid").await;
    let again = shop.me().post(&path, method).await;
    assert_eq!((again.status, &again.body["status"]), (StatusCode::OK, &json!("paid")));
    assert_eq!(shop.moved(&id).await, [1999]);
    shop.books_agree(lamp, 5).await;
}

#[tokio::test]
async fn a_declined_payment_gives_the_stock_back() {
    let shop = Shop::open().await;
    let lamp = shop.add(1999, 5).await;
    let me = shop.me().header("idempotency-key", "k1");
    for _ in 0..2 {
        let reply = me.post("/orders", paying(&[(lamp, 2)], "tok_declined")).await;
        assert_eq!(
            (reply.status, &reply.body["type"]),
            (StatusCode::CONFLICT, &json!(problem("payment-declined")))
        );
        shop.stock_becomes(lamp, 5).await;
    }
    let id = only_order(&shop).await;
    let order = shop.order(&id).await;
    assert_eq!((&order["status"], &order["reason"]), (&json!("cancelled"), &json!("card_declined")));
    assert_eq!(shop.history(&id).await, ["placed", "reserved", "payment_requested", "cancelled"]);
    eventually("it is told", async || shop.told("order.cancelled").await.len() == 1).await;
    assert_eq!(shop.told("order.cancelled").await[0]["reason"], "card_declined");
    let pay = shop.me().post(&format!("/orders/{id}/pay"), json!({"method": "tok_ok"})).await;
    assert_eq!((pay.status, &pay.body["type"]), (StatusCode::CONFLICT, &json!(problem("wrong-status"))));
    assert!(shop.moved(&id).await.is_empty());
    shop.books_agree(lamp, 5).await;
}

#[tokio::test]
async fn without_stock_nothing_is_charged() {
    let (shop, lamp, chair) = Shop::open_sold_out().await;
    let reply = shop.me().post("/orders", paying(&[(lamp, 1), (chair, 1)], "tok_ok")).await;
    assert_eq!(reply.status, StatusCode::CONFLICT, "{reply:?}");
    let mut payments = PgConnection::connect(&shop.payments_database).await.unwrap();
    let asked: i64 =
        sqlx::query_scalar("SELECT count(*) FROM payments").fetch_one(&mut payments).await.unwrap();
    assert_eq!(asked, 0);
    shop.books_agree(lamp, 5).await;
}

#[tokio::test]
async fn a_payment_that_is_decided_later_has_its_effect_later() {
    let shop = Shop::open().await;
    let lamp = shop.add(1999, 10).await;
    for (method, status, stock) in [
        // Charged, and the answer lost; failed at first; told by a callback.
        ("tok_timeout", "paid", 9),
        ("tok_flaky", "paid", 8),
        ("tok_callback", "paid", 7),
        ("tok_callback_declined", "cancelled", 7),
    ] {
        let placed = shop.buy(lamp, method).await;
        assert_eq!(
            (placed.status, &placed.body["status"]),
            (StatusCode::CREATED, &json!("pending")),
            "{method}"
        );
        let id = id_of(&placed);
        shop.becomes(&id, status).await;
        shop.stock_becomes(lamp, stock).await;
        let moved = if status == "paid" { vec![1999] } else { vec![] };
        assert_eq!(shop.moved(&id).await, moved, "{method}");
        shop.history(&id).await;
    }
    shop.books_agree(lamp, 10).await;
    eventually("each is told once", async || {
        (shop.told("order.paid").await.len(), shop.told("order.cancelled").await.len()) == (3, 1)
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_paid_in_time_is_cancelled_and_costs_nothing() {
    let mut shop = Shop::open_as(&redis_database().await, &["--pay-within", "1s"]).await;
    let lamp = shop.add(1999, 5).await;
    let address = shop.stop_payment().await;
    let placed = shop.buy(lamp, "tok_ok").await;
    assert_eq!(
        (placed.status, &placed.body["status"]),
        (StatusCode::CREATED, &json!("pending")),
        "{placed:?}"
    );
    let id = id_of(&placed);
    shop.becomes(&id, "cancelled").await;
    shop.stock_becomes(lamp, 5).await;
    assert_eq!(shop.order(&id).await["reason"], "payment_timeout");
    shop.resume_payment(address).await;
    shop.books_agree(lamp, 5).await;
    // The payment was taken back before it came, so one that is still on its way is refused.
    let mut payments = PaymentServiceClient::new(shop.payment.channel());
    let late = PayRequest {
        reference: format!("order:{id}"),
        user_id: shop.customer.to_string(),
        amount: 1999,
        currency: "EUR".into(),
        method: "tok_ok".into(),
    };
    assert!(payments.pay(late).await.is_err());
    assert!(shop.moved(&id).await.is_empty());
}

#[tokio::test]
async fn without_the_payment_service_an_order_waits_and_is_paid_when_it_is_back() {
    let mut shop = Shop::open().await;
    let lamp = shop.add(1999, 5).await;
    let address = shop.stop_payment().await;
    let id = id_of(&shop.buy(lamp, "tok_ok").await);
    assert_eq!(shop.order.health().await.1, "DEGRADED");
    assert_eq!(shop.order(&id).await["status"], "pending");
    shop.resume_payment(address).await;
    shop.becomes(&id, "paid").await;
    shop.books_agree(lamp, 5).await;
}

#[tokio::test]
async fn a_paid_order_that_is_cancelled_gives_money_and_stock_back_once() {
    let shop = Shop::open().await;
    let lamp = shop.add(1999, 5).await;
    let me = shop.me();
    for method in ["tok_ok", "tok_flaky", "tok_callback", "tok_timeout"] {
        let id = id_of(&shop.buy(lamp, method).await);
        let path = format!("/orders/{id}/cancel");
        let replies = join_all((0..4).map(|_| me.post(&path, json!({})))).await;
        assert!(replies.iter().all(|reply| reply.body["status"] == "cancelled"), "{method} {replies:?}");
        shop.stock_becomes(lamp, 5).await;
        shop.books_agree(lamp, 5).await;
        assert_eq!(shop.moved(&id).await.iter().sum::<i64>(), 0, "{method}");
        assert_eq!(shop.history(&id).await.iter().filter(|fact| *fact == "cancelled").count(), 1);
    }
    eventually("each is told once", async || shop.told("order.cancelled").await.len() == 4).await;
}

#[tokio::test]
async fn a_refund_by_an_admin_cancels_the_order() {
    let shop = Shop::open().await;
    let lamp = shop.add(1999, 5).await;
    let id = id_of(&shop.buy(lamp, "tok_ok").await);
    let mut payments = PaymentServiceClient::new(shop.payment.channel());
    let refund = RefundRequest { reference: format!("order:{id}") };
    payments.refund(refund).await.unwrap();
    shop.becomes(&id, "cancelled").await;
    assert_eq!(shop.order(&id).await["reason"], "payment_refunded");
    shop.stock_becomes(lamp, 5).await;
    shop.books_agree(lamp, 5).await;
    assert_eq!(shop.moved(&id).await, [1999, -1999]);
}

/// As a crash leaves an order right after each step, and what an instance makes of it that starts then.
#[tokio::test]
async fn an_instance_that_died_after_any_step_is_replaced_by_another() {
    let shop = Shop::open().await;
    let lamp = shop.add(1999, 10).await;
    let mut orders = PgConnection::connect(&shop.orders_database).await.unwrap();
    let mut payments = PaymentServiceClient::new(shop.payment.channel());
    for (after, status, moved) in [
        ("the order was confirmed", "paid", vec![1999]),
        ("the payment was made", "paid", vec![1999]),
        ("the order was cancelled", "cancelled", vec![]),
        ("the order was cancelled and its payment made", "cancelled", vec![1999, -1999]),
        ("the payment was taken back", "cancelled", vec![1999, -1999]),
    ] {
        let id = id_of(&shop.me().post("/orders", items(&[(lamp, 1)])).await);
        let pay = PayRequest {
            reference: format!("order:{id}"),
            user_id: shop.customer.to_string(),
            amount: 1999,
            currency: "EUR".into(),
            method: "tok_ok".into(),
        };
        if moved.contains(&1999) && after != "the order was confirmed" {
            payments.pay(pay).await.unwrap();
        }
        if after == "the payment was taken back" {
            payments.refund(RefundRequest { reference: format!("order:{id}") }).await.unwrap();
        }
        if status == "cancelled" {
            shop.me().post(&format!("/orders/{id}/cancel"), json!({})).await;
        }
        let step = if status == "paid" { "pay" } else { "refund" };
        let sql = "UPDATE orders SET method = 'tok_ok', step = $2, due = now() WHERE id = $1";
        let order: Uuid = id.parse().unwrap();
        sqlx::query(sql).bind(order).bind(step).execute(&mut orders).await.unwrap();
        shop.becomes(&id, status).await;
        shop.books_agree(lamp, 10).await;
        assert_eq!(shop.moved(&id).await, moved, "{after}");
        shop.history(&id).await;
    }
}

#[tokio::test]
async fn events_that_are_replayed_have_their_effect_once() {
    let shop = Shop::open().await;
    let lamp = shop.add(1999, 5).await;
    let paid = id_of(&shop.buy(lamp, "tok_callback").await);
    let declined = id_of(&shop.buy(lamp, "tok_callback_declined").await);
    shop.becomes(&paid, "paid").await;
    shop.becomes(&declined, "cancelled").await;
    eventually("both were heard", async || heard(&shop).await == 2).await;
    // As after a crash between the effect and the acknowledgement, for all events at once: the group begins anew.
    let redis = Redis::new(shop.redis.parse().unwrap()).unwrap();
    for stream in shop_order::inbox::STREAMS {
        redis.run::<i64>(cmd("XGROUP").arg("DESTROY").arg(stream).arg("order")).await.ok();
    }
    let second = shop.another_order(&[]).await;
    // Something new at the end of each stream says that all before it was heard.
    let third = id_of(&shop.buy(lamp, "tok_callback").await);
    let fourth = id_of(&shop.buy(lamp, "tok_callback_declined").await);
    eventually("what is new was heard", async || heard(&shop).await == 4).await;
    shop.becomes(&third, "paid").await;
    shop.becomes(&fourth, "cancelled").await;
    let facts = ["placed", "reserved", "payment_requested"];
    assert_eq!(shop.history(&paid).await, [facts.as_slice(), &["paid"]].concat());
    assert_eq!(shop.history(&declined).await, [facts.as_slice(), &["cancelled"]].concat());
    shop.books_agree(lamp, 5).await;
    assert_eq!((shop.told("order.paid").await.len(), shop.told("order.cancelled").await.len()), (2, 2));
    second.stop().await.unwrap();
}

/// How many events had their effect.
async fn heard(shop: &Shop) -> i64 {
    let mut orders = PgConnection::connect(&shop.orders_database).await.unwrap();
    sqlx::query_scalar("SELECT count(*) FROM inbox").fetch_one(&mut orders).await.unwrap()
}

#[tokio::test]
async fn the_same_order_submitted_twice_is_paid_once() {
    let shop = Shop::open().await;
    let lamp = shop.add(1999, 50).await;
    let second = shop.another_order(&[]).await;
    let clients = [shop.me(), second.http.user(shop.customer, "customer")];
    let replies = join_all((0..8).map(|i| {
        let client = clients[i % 2].header("idempotency-key", "k1");
        async move { client.post("/orders", paying(&[(lamp, 1)], "tok_ok")).await }
    }))
    .await;
    let fits = |reply: &shop_kit::testing::Reply| {
        reply.status == StatusCode::CREATED || reply.body["type"] == problem("in-progress")
    };
    assert!(replies.iter().all(fits), "{replies:?}");
    let id = only_order(&shop).await;
    shop.becomes(&id, "paid").await;
    assert_eq!(shop.moved(&id).await, [1999]);
    let other =
        clients[0].header("idempotency-key", "k1").post("/orders", paying(&[(lamp, 1)], "tok_slow")).await;
    assert_eq!((other.status, &other.body["type"]), (StatusCode::CONFLICT, &json!(problem("key-reused"))));
    shop.books_agree(lamp, 50).await;
}

#[tokio::test]
async fn payments_that_make_no_sense_leave_everything_as_it_was() {
    let shop = Shop::open().await;
    let lamp = shop.add(1999, 5).await;
    for (payment, expect) in [
        (json!({"method": ""}), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({"method": "x".repeat(201)}), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({"method": "a\u{0}b"}), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({}), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({"method": "'; DROP TABLE orders; --"}), StatusCode::CONFLICT),
    ] {
        let mut body = items(&[(lamp, 1)]);
        body["payment"] = payment;
        let reply = shop.me().post("/orders", body.clone()).await;
        assert_eq!(reply.status, expect, "{body} {reply:?}");
        assert!(reply.body["type"].as_str().unwrap().starts_with("urn:problem:shop:"), "{reply:?}");
        shop.stock_becomes(lamp, 5).await;
    }
    for quantity in [json!(-1), json!(4_294_967_296_u64), json!(1.5), json!("1")] {
        let body =
            json!({"items": [{"product_id": lamp, "quantity": quantity}], "payment": {"method": "tok_ok"}});
        assert_eq!(shop.me().post("/orders", body).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
    // More than the payment service takes at once, and a currency that it does not settle.
    let yacht = shop.add(900_000_000_000, 5).await;
    let reply = shop.me().post("/orders", paying(&[(yacht, 2)], "tok_ok")).await;
    assert_eq!(
        (reply.status, &reply.body["type"]),
        (StatusCode::CONFLICT, &json!(problem("payment-declined")))
    );
    let coin = json!({"name": "Coin", "price": 1, "currency": "XTS", "stock": 5});
    let coin = id_of(&shop.product.http.post("/products", coin).await).parse().unwrap();
    let reply = shop.me().post("/orders", paying(&[(coin, 1)], "tok_ok")).await;
    assert_eq!(
        (reply.status, &reply.body["type"]),
        (StatusCode::CONFLICT, &json!(problem("payment-declined")))
    );
    for product in [lamp, yacht, coin] {
        shop.books_agree(product, 5).await;
    }
}

#[tokio::test]
async fn what_costs_nothing_needs_no_payment() {
    let shop = Shop::open().await;
    let flyer = shop.add(0, 5).await;
    let placed = shop.buy(flyer, "tok_declined").await;
    assert_eq!((placed.status, &placed.body["status"]), (StatusCode::CREATED, &json!("paid")), "{placed:?}");
    shop.me().post(&format!("/orders/{}/cancel", id_of(&placed)), json!({})).await;
    shop.stock_becomes(flyer, 5).await;
    shop.books_agree(flyer, 5).await;
}

#[tokio::test]
async fn an_order_that_is_being_paid_is_not_moved_on_by_hand() {
    let mut shop = Shop::open().await;
    let lamp = shop.add(1999, 5).await;
    shop.stop_payment().await;
    let id = id_of(&shop.buy(lamp, "tok_ok").await);
    let reply = shop.admin().patch(&format!("/orders/{id}/status"), json!({"status": "paid"})).await;
    assert_eq!((reply.status, &reply.body["type"]), (StatusCode::CONFLICT, &json!(problem("being-paid"))));
}

#[tokio::test]
async fn a_history_is_appended_to_only_by_who_knows_all_of_it() {
    let shop = Shop::open().await;
    let lamp = shop.add(1999, 5).await;
    let id = id_of(&shop.me().post("/orders", items(&[(lamp, 1)])).await);
    for status in ["paid", "shipped", "delivered"] {
        shop.admin().patch(&format!("/orders/{id}/status"), json!({"status": status})).await;
    }
    let facts = ["placed", "reserved", "paid", "shipped", "delivered"];
    // Five facts, of which the first four are in a snapshot.
    assert_eq!(shop.history(&id).await, facts);
    let order: Uuid = id.parse().unwrap();
    let mut orders = PgConnection::connect(&shop.orders_database).await.unwrap();
    let sql = "SELECT version FROM order_snapshots WHERE order_id = $1";
    assert_eq!(sqlx::query_scalar::<_, i32>(sql).bind(order).fetch_one(&mut orders).await.unwrap(), 4);

    let now = shop_kit::clock::now();
    let stale = append(&mut orders, order, 4, &Fact::Delivered {}, now).await;
    assert!(matches!(stale, Err(StoreError::Stale)), "{stale:?}");
    assert_eq!(shop.history(&id).await, facts);
    let stranger = shop.order.http.user(Uuid::new_v4(), "customer");
    let hidden = stranger.get(&format!("/orders/{id}/history")).await;
    assert_eq!(hidden.status, StatusCode::NOT_FOUND);
}
