//! What a payment is for: payment asks over the bus, and order answers.

use http::StatusCode;
use serde_json::json;
use shop_kit::{
    pb::payment::{PayRequest, payment_service_client::PaymentServiceClient},
    testing::Running,
};
use uuid::Uuid;

use crate::shop::{Shop, id_of, paying};

#[tokio::test]
async fn an_admin_learns_what_a_payment_is_for() {
    let mut shop = Shop::open().await;
    let lamp = shop.add(1999, 5).await;
    let placed = shop.me().post("/orders", paying(&[(lamp, 2)], "tok_ok")).await;
    let order = id_of(&placed);
    shop.becomes(&order, "paid").await;
    let customer = shop.payment.http.user(shop.customer, "customer");
    let payment = customer.get("/payments").await.body["items"][0]["id"].clone();
    let path = format!("/payments/{}/purpose", payment.as_str().unwrap());
    let admin = shop.payment.http.user(Uuid::from_u128(1), "admin");
    let purpose = |status: &str| json!({"reference": format!("order:{order}"), "status": status, "items": ["2 × Lamp"]});
    assert_eq!(admin.get(&path).await.body, purpose("paid"));
    assert_eq!(customer.get(&path).await.status, StatusCode::FORBIDDEN);
    shop.me().post(&format!("/orders/{order}/cancel"), json!({})).await;
    assert_eq!(admin.get(&path).await.body, purpose("cancelled"));

    // While nobody is there to answer: no answer to who cannot wait, and one to who waits until somebody is.
    let gone = std::mem::replace(&mut shop.order, Running::launch(async |_, _| Ok(())).await);
    gone.stop().await.unwrap();
    let late = admin.header("grpc-timeout", "300m").get(&path).await;
    assert_eq!(late.status, StatusCode::GATEWAY_TIMEOUT, "{late:?}");
    let (waited, _order) = tokio::join!(admin.get(&path), shop.another_order(&[]));
    assert_eq!(waited.body, purpose("cancelled"));
    let metrics = shop.payment.http.get("/metrics").await.body;
    let answered = r#"shop_bus_calls_total{outcome="answered",to="order.purpose"} 3"#;
    assert!(metrics.as_str().unwrap().contains(answered), "{metrics}");
}

#[tokio::test]
async fn what_nobody_knows_has_no_purpose() {
    let shop = Shop::open().await;
    let admin = shop.payment.http.user(Uuid::from_u128(1), "admin");
    let mut client = PaymentServiceClient::new(shop.payment.channel());
    let unknown = format!("order:{}", Uuid::new_v4());
    for reference in [unknown.as_str(), "order:'; DROP TABLE orders; --", "nobody's", "Order: 1"] {
        let demand = PayRequest {
            reference: reference.to_owned(),
            user_id: shop.customer.to_string(),
            amount: 100,
            currency: "EUR".into(),
            method: "tok_ok".into(),
        };
        let paid = client.pay(demand).await.unwrap().into_inner();
        let reply = admin.get(&format!("/payments/{}/purpose", paid.id)).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{reference} {reply:?}");
    }
}
