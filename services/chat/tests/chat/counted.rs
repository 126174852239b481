//! What /metrics says after people have talked.

use futures_util::SinkExt as _;
use serde_json::json;
use shop_kit::testing::eventually;
use tokio_tungstenite::tungstenite::Message;

use crate::town::{Town, User};

#[tokio::test]
async fn what_people_do_is_counted() {
    let town = Town::with(2, &["--messages-at-once", "1000"]).await;
    let (ann, bob) = (User::new("Ann"), User::new("Bob"));
    let mut here = town.enter(0, &ann, "lobby").await;
    let mut there = town.enter(1, &bob, "lobby").await;
    for instance in [0, 1] {
        assert_eq!(town.metric(instance, "shop_chat_connections").await, 1);
    }
    let mut last = 0;
    eventually("a message comes over the channel", async || {
        last = here.tell("hello").await;
        there.ids_to(last).await;
        town.metric(1, "shop_chat_fan_out_seconds_count").await > 0
    })
    .await;
    here.ids_to(last).await;
    assert_eq!(town.metric(0, "shop_chat_fan_out_seconds_count").await, 0, "it tells, and is not told");
    assert!(town.metric(1, "shop_chat_fan_out_seconds_bucket{le=\"+Inf\"}").await <= last);
    for instance in [0, 1] {
        let live = r#"shop_chat_deliveries_total{way="live"}"#;
        eventually("all are counted", async || town.metric(instance, live).await == last).await;
    }
    assert_eq!(town.metric(0, r#"shop_chat_messages_total{outcome="stored"}"#).await, last);

    let again = json!({"type": "send", "client_id": "twice", "text": "again"});
    for _ in 0..3 {
        here.send(&again).await;
        here.of("accepted").await;
    }
    assert_eq!(town.metric(0, r#"shop_chat_messages_total{outcome="stored"}"#).await, last + 1);
    assert_eq!(town.metric(0, r#"shop_chat_messages_total{outcome="repeated"}"#).await, 2);
    for frame in ["{", r#"{"type":"ack","id":99999}"#, "[]"] {
        here.socket.send(Message::text(frame)).await.unwrap();
        here.of("error").await;
    }
    assert_eq!(town.metric(0, r#"shop_chat_frames_refused_total{reason="malformed"}"#).await, 2);
    assert_eq!(town.metric(0, r#"shop_chat_frames_refused_total{reason="invalid"}"#).await, 1);

    let behind = town.enter_after(0, &bob, "lobby", Some(1)).await;
    assert_eq!(town.metric(0, r#"shop_chat_deliveries_total{way="replayed"}"#).await, last);
    assert_eq!(town.metric(0, "shop_chat_connections").await, 2);
    drop(behind);
    eventually("it is closed", async || town.metric(0, "shop_chat_connections").await == 1).await;
    assert_eq!(town.metric(0, r#"shop_chat_connections_ended_total{reason="gone"}"#).await, 1);
}
