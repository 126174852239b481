//! How fast a user may write over two instances.

use futures_util::future::join;
use shop_kit::testing::{RedisServer, database, eventually};
use tokio::time::Instant;

use crate::{
    client::Client,
    town::{Town, User},
};

/// At once; and then one per second.
const BURST: i64 = 6;
const SETTINGS: [&str; 4] = ["--messages-per-second", "1", "--messages-at-once", "6"];
const PACED_ALONE: &str = "shop_chat_paced_alone_total";

/// Writes so many messages and says how many were accepted; the others were refused for the pace.
async fn write(client: &mut Client, count: usize) -> i64 {
    let mut accepted = 0;
    for _ in 0..count {
        let client_id = client.say("fast").await;
        let answer = client.until("there is an answer", |frame| frame["client_id"] == client_id.as_str());
        let answer = answer.await;
        // The message itself may come before or after it is said to be accepted.
        accepted += i64::from(answer["type"] != "error");
        assert!(answer["type"] != "error" || answer["reason"] == "rate-limited", "{answer}");
    }
    accepted
}

/// How many may have passed since then in one pace.
fn most_since(start: Instant) -> i64 {
    BURST + 1 + i64::try_from(start.elapsed().as_secs()).unwrap()
}

#[tokio::test]
async fn a_user_has_one_pace_over_all_instances() {
    let town = Town::with(2, &SETTINGS).await;
    let ann = User::new("Ann");
    let mut here = town.enter(0, &ann, "lobby").await;
    let mut there = town.enter(1, &ann, "other").await;
    let start = Instant::now();
    let (one, other) = join(write(&mut here, 20), write(&mut there, 20)).await;
    let most = most_since(start);
    assert!((BURST..=most).contains(&(one + other)), "{one} and {other}, at most {most}");
    // Whoever else is there is not held up by it.
    let mut bob = town.enter(1, &User::new("Bob"), "lobby").await;
    assert_eq!(write(&mut bob, 3).await, 3);
    for instance in [0, 1] {
        assert_eq!(town.metric(instance, PACED_ALONE).await, 0);
    }
}

#[tokio::test]
async fn without_redis_each_instance_holds_its_users_to_the_pace() {
    let redis = RedisServer::start();
    let town = Town::on(&database().await, &redis.url(), 2, &SETTINGS).await;
    let ann = User::new("Ann");
    let mut here = town.enter(0, &ann, "lobby").await;
    let mut there = town.enter(1, &ann, "other").await;
    let start = Instant::now();
    assert_eq!(write(&mut here, 2).await, 2);

    redis.stop();
    // What was written here counts here; what was written there is not known.
    let one = 2 + write(&mut here, 20).await;
    assert!((BURST..=most_since(start)).contains(&one), "{one}");
    let other = write(&mut there, 20).await;
    assert!((BURST..=most_since(start)).contains(&other), "{other}");
    for instance in [0, 1] {
        assert!(town.metric(instance, PACED_ALONE).await >= BURST);
    }

    redis.resume();
    eventually("it is one pace again", async || {
        let mut other = town.enter(1, &User::new("Bob"), "lobby").await;
        let before = town.metric(1, PACED_ALONE).await;
        assert_eq!(write(&mut other, 1).await, 1);
        town.metric(1, PACED_ALONE).await == before
    })
    .await;
}
