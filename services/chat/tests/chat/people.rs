//! Who is there, and who types.

use serde_json::{Value, json};
use shop_kit::testing::eventually;

use crate::{
    client::Client,
    town::{Town, User},
};

fn names(people: &Value) -> Vec<String> {
    let mut names: Vec<String> =
        people.as_array().unwrap().iter().map(|person| person["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

async fn present(town: &Town, user: &User) -> Vec<String> {
    names(&town.http(0, user).get("/chat/rooms/lobby/people").await.body["items"])
}

/// The next time that somebody else comes or goes.
async fn next_of(client: &mut Client, kind: &str, user: &User) -> Value {
    client.until(kind, |frame| frame["type"] == kind && frame["user"] == json!(user.id)).await
}

#[tokio::test]
async fn comings_and_goings_are_told_on_every_instance() {
    let town = Town::of(2).await;
    let (ann, bob) = (User::new("Ann"), User::new("Bob"));
    let mut here = town.enter(0, &ann, "lobby").await;
    let there = town.enter(1, &bob, "lobby").await;
    assert_eq!(next_of(&mut here, "joined", &bob).await["name"], "Bob");
    assert_eq!(names(&there.welcome["present"]), ["Ann", "Bob"]);
    assert_eq!(there.welcome["present_count"], 2);
    assert_eq!(present(&town, &ann).await, ["Ann", "Bob"]);

    // Bob is there until the last of his connections ends, wherever they are.
    let second = town.enter(0, &bob, "lobby").await;
    let redis = shop_kit::redis::Redis::new(town.redis.parse().unwrap()).unwrap();
    let instances = async || {
        let key = format!("chat:{{lobby}}:present:{}", bob.id);
        redis.run::<u64>(redis::cmd("ZCARD").arg(key)).await.unwrap()
    };
    eventually("he is on both", async || instances().await == 2).await;
    drop(there);
    eventually("one has let go", async || instances().await == 1).await;
    assert_eq!(present(&town, &ann).await, ["Ann", "Bob"]);
    drop(second);
    next_of(&mut here, "left", &bob).await;
    assert_eq!(present(&town, &ann).await, ["Ann"]);
    // The same person in another room is somewhere else.
    let _elsewhere = town.enter(1, &bob, "other").await;
    assert_eq!(present(&town, &ann).await, ["Ann"]);
}

#[tokio::test]
async fn who_was_on_an_instance_that_died_leaves_in_the_end() {
    let town = Town::with(1, &["--presence-timeout", "600ms"]).await;
    let (ann, bob) = (User::new("Ann"), User::new("Bob"));
    let mut client = town.enter(0, &ann, "lobby").await;
    // What an instance leaves behind that is killed: an entry that nobody renews.
    let redis = shop_kit::redis::Redis::new(town.redis.parse().unwrap()).unwrap();
    let key = "chat:{lobby}:present";
    let soon = redis.run::<Vec<i64>>(&redis::cmd("TIME")).await.unwrap()[0] * 1000 + 1500;
    let ghost = format!("{} Bob", bob.id);
    redis.run::<()>(redis::cmd("ZADD").arg(key).arg(soon).arg(&ghost)).await.unwrap();
    assert_eq!(present(&town, &ann).await, ["Ann", "Bob"]);
    next_of(&mut client, "left", &bob).await;
    assert_eq!(present(&town, &ann).await, ["Ann"]);
}

#[tokio::test]
async fn typing_is_passed_on_now_and_then_and_never_stored() {
    let town = Town::of(2).await;
    let (ann, bob) = (User::new("Ann"), User::new("Bob"));
    let mut here = town.enter(0, &ann, "lobby").await;
    let mut there = town.enter(1, &bob, "lobby").await;
    for _ in 0..20 {
        here.send(&json!({"type": "typing"})).await;
    }
    let told = there.of("typing").await;
    assert_eq!((&told["user"], &told["name"]), (&json!(ann.id), &json!("Ann")));
    // The message comes after all that was typed before it: one sign of it was passed on.
    assert_eq!(here.tell("typed").await, 1);
    let mut signs = 0;
    there
        .until("the message", |frame| {
            signs += u32::from(frame["type"] == "typing");
            frame["type"] == "message"
        })
        .await;
    assert_eq!(signs, 0);
    let history = town.http(0, &ann).get("/chat/rooms/lobby/messages").await.body;
    assert_eq!(history["items"].as_array().unwrap().len(), 1);
}
