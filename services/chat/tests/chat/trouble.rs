//! Chat without Redis, without PostgreSQL, and with instances that come and go.

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};
use shop_kit::testing::{RedisServer, cut_off, database, eventually, let_in};

use crate::{
    client::{Client, connect},
    town::{Town, User},
};

#[tokio::test]
async fn without_redis_messages_are_stored_and_found_again() {
    let redis = RedisServer::start();
    let town = Town::on(&database().await, &redis.url(), 2, &["--messages-at-once", "1000"]).await;
    let (ann, bob) = (User::new("Ann"), User::new("Bob"));
    let mut here = town.enter(0, &ann, "lobby").await;
    let mut there = town.enter(1, &bob, "lobby").await;
    here.tell("with Redis").await;
    assert_eq!(there.ids_to(1).await, [1]);

    redis.stop();
    for number in 2..=10 {
        assert_eq!(here.tell("without Redis").await, number);
    }
    // On the same instance at once, on the other one when it looks.
    assert_eq!(here.ids_to(10).await, (1..=10).collect::<Vec<_>>());
    assert_eq!(there.ids_to(10).await, (2..=10).collect::<Vec<_>>());
    // One can enter as well; who is there is not known.
    let new = town.enter_after(1, &User::new("Cid"), "lobby", Some(0)).await;
    assert_eq!((new.missed.len(), &new.welcome["present"]), (10, &Value::Null));
    let people = town.http(0, &ann).get("/chat/rooms/lobby/people").await;
    assert_eq!(people.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(town.instances[0].health().await, (StatusCode::OK, "DEGRADED".to_owned()));

    redis.resume();
    eventually("they hear of each other again", async || {
        here.send(&json!({"type": "typing"})).await;
        let next = tokio::time::timeout(std::time::Duration::from_millis(500), there.of("typing")).await;
        next.is_ok()
    })
    .await;
    assert_eq!(here.tell("with Redis again").await, 11);
    assert_eq!(there.ids_to(11).await, [11]);
    eventually("who is there is known again", async || {
        let people = town.http(0, &ann).get("/chat/rooms/lobby/people").await.body;
        people["count"] == 3
    })
    .await;
}

#[tokio::test]
async fn without_postgresql_messages_are_refused_and_nothing_is_pretended() {
    let town = Town::of(2).await;
    let (ann, bob) = (User::new("Ann"), User::new("Bob"));
    let mut here = town.enter(0, &ann, "lobby").await;
    let mut there = town.enter(1, &bob, "lobby").await;
    assert_eq!(here.tell("before").await, 1);
    assert_eq!(there.ids_to(1).await, [1]);

    cut_off(&town.database).await;
    let client_id = here.say("meanwhile").await;
    let error = here.of("error").await;
    assert_eq!((&error["reason"], &error["client_id"]), (&json!("unavailable"), &json!(client_id)));
    assert!(error["retry_after_ms"].as_u64().unwrap() > 0);
    // What needs no database goes on.
    here.send(&json!({"type": "typing"})).await;
    there.of("typing").await;
    let address = town.instances[0].http.address();
    let refused = connect(address, "/chat/rooms/lobby/ws", &bob, &[]).await;
    assert_eq!(refused.unwrap_err(), StatusCode::SERVICE_UNAVAILABLE);

    let_in(&town.database).await;
    eventually("the same message is taken", async || {
        here.send(&json!({"type": "send", "client_id": client_id, "text": "meanwhile"})).await;
        let answer = here.until("an answer", |frame| frame["type"] == "accepted" || frame["type"] == "error");
        answer.await["id"] == 2
    })
    .await;
    assert_eq!(there.ids_to(2).await, [2]);
    let history = town.http(1, &bob).get("/chat/rooms/lobby/messages").await.body;
    assert_eq!(history["items"].as_array().unwrap().len(), 2);
}

/// Comes after what was seen last, writes, and answers with the connection and all that came.
async fn visit(town: &Town, user: &User, instance: usize, last: i64) -> (Client, Vec<i64>) {
    let mut client = town.enter_after(instance, user, "lobby", Some(last)).await;
    let mut own = 0;
    for round in 0..10 {
        own = client.tell(&format!("{} {round}", user.name)).await;
    }
    // Others' messages may have come after one's own last one; the next visit begins where this one ended.
    let seen = client.ids_to(own).await;
    (client, seen)
}

#[tokio::test]
async fn order_and_completeness_outlive_the_instances() {
    let mut town = Town::with(2, &["--messages-at-once", "1000"]).await;
    let users = [User::new("Ann"), User::new("Bob"), User::new("Cid")];
    let mut seen: [Vec<i64>; 3] = Default::default();
    for turn in 0..4 {
        let visits = users.iter().zip(&seen).enumerate().map(async |(index, (user, seen))| {
            visit(&town, user, (turn + index) % 2, seen.last().copied().unwrap_or_default()).await
        });
        let visits = join_all(visits).await;
        // One instance goes while its clients are there, another one comes.
        town.instances.remove(turn % 2).stop().await.unwrap();
        town.grow().await;
        for ((_, new), seen) in visits.into_iter().zip(&mut seen) {
            seen.extend(new);
        }
    }
    let total = 4 * 3 * 10;
    for (user, seen) in users.iter().zip(&mut seen) {
        let last = seen.last().copied();
        let mut client = town.enter_after(0, user, "lobby", last).await;
        if last != Some(total) {
            seen.extend(client.ids_to(total).await);
        }
        assert_eq!(*seen, (1..=total).collect::<Vec<_>>(), "{}", user.name);
    }
}
