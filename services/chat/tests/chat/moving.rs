//! Two instances as one: history, what was seen, and replay for who moves from one to the other.

use serde_json::{Value, json};
use shop_kit::testing::eventually;

use crate::{
    client::Client,
    town::{Town, User},
};

fn ids(items: &Value) -> Vec<i64> {
    items.as_array().unwrap().iter().map(|item| item["id"].as_i64().unwrap()).collect()
}

/// Reads one page of the room from an instance.
async fn page(town: &Town, instance: usize, user: &User, query: &str) -> (Vec<i64>, bool) {
    let reply = town.http(instance, user).get(&format!("/chat/rooms/lobby/messages?limit=7&{query}")).await;
    (ids(&reply.body["items"]), reply.body["more"].as_bool().unwrap())
}

#[tokio::test]
async fn pages_of_history_fit_together_whichever_instance_is_asked_while_people_write() {
    const LAST: i64 = 60;
    let town = Town::with(2, &["--messages-at-once", "1000"]).await;
    let (ann, bob) = (User::new("Ann"), User::new("Bob"));
    let mut writers = [town.enter(0, &ann, "lobby").await, town.enter(1, &bob, "lobby").await];
    let writing = async {
        for number in 0..usize::try_from(LAST).unwrap() {
            writers[number % 2].tell("hello").await;
        }
    };
    let reading = async {
        let (mut read, mut instance) = (Vec::new(), 0);
        eventually("all is read", async || {
            let after = read.last().copied().unwrap_or_default();
            let (page, more) = page(&town, instance, &ann, &format!("after={after}")).await;
            assert!(!more || page.len() == 7, "{page:?}");
            read.extend(page);
            instance = 1 - instance;
            read.last() == Some(&LAST)
        })
        .await;
        read
    };
    let ((), forward) = tokio::join!(writing, reading);
    assert_eq!(forward, (1..=LAST).collect::<Vec<_>>());

    let (mut backward, mut instance, mut more) = (Vec::new(), 1, true);
    while more {
        let before = backward.first().copied().unwrap_or(LAST + 1);
        let page = page(&town, instance, &bob, &format!("before={before}")).await;
        backward.splice(..0, page.0);
        more = page.1;
        instance = 1 - instance;
    }
    assert_eq!(backward, forward);
}

async fn acknowledge(client: &mut Client, id: i64) {
    client.send(&json!({"type": "ack", "id": id})).await;
}

#[tokio::test]
async fn what_was_seen_on_either_instance_never_goes_back() {
    let mut town = Town::of(2).await;
    let (ann, bob) = (User::new("Ann"), User::new("Bob"));
    let mut writer = town.enter(0, &ann, "lobby").await;
    let mut readers = [town.enter(0, &bob, "lobby").await, town.enter(1, &bob, "lobby").await];
    for _ in 0..9 {
        writer.tell("hello").await;
    }
    for reader in &mut readers {
        reader.ids_to(9).await;
    }
    // The higher one may be written first or last, by either of them.
    for (instance, id) in [(0, 5), (1, 3), (1, 7), (0, 6)] {
        acknowledge(&mut readers[instance], id).await;
    }
    eventually("both know the highest", async || {
        let known = async |instance| town.enter(instance, &bob, "lobby").await.welcome["acked"] == 7;
        known(0).await && known(1).await
    })
    .await;

    // An instance that stops keeps what it was just told.
    acknowledge(&mut readers[0], 9).await;
    readers[0].tell("this comes after it").await;
    town.instances.remove(0).stop().await.unwrap();
    let again = town.enter(0, &bob, "lobby").await;
    assert_eq!((&again.welcome["acked"], &again.welcome["after"]), (&json!(9), &json!(9)));
    assert_eq!(again.missed.iter().map(|message| &message["id"]).collect::<Vec<_>>(), [10]);
}

#[tokio::test]
async fn who_moves_to_the_other_instance_goes_on_after_the_last_message_they_saw() {
    let town = Town::with(2, &["--messages-at-once", "1000"]).await;
    let (ann, bob, cid) = (User::new("Ann"), User::new("Bob"), User::new("Cid"));
    let mut writers = [town.enter(0, &ann, "lobby").await, town.enter(1, &bob, "lobby").await];
    let mut reader = town.enter(0, &cid, "lobby").await;
    let mut seen = Vec::new();
    for turn in 1..=6 {
        for writer in &mut writers {
            writer.tell("while Cid is here").await;
        }
        let last = writers[0].tell("the last one that Cid sees here").await;
        seen.extend(reader.ids_to(last).await);
        drop(reader);
        for writer in &mut writers {
            writer.tell("while Cid is away").await;
        }
        reader = town.enter_after(turn % 2, &cid, "lobby", Some(last)).await;
        assert_eq!(reader.missed.len(), 2, "turn {turn}");
        seen.extend(reader.ids_to(last + 2).await);
    }
    assert_eq!(seen, (1..=30).collect::<Vec<_>>());
}
