//! Messages of a room: everywhere, in order, once.

use http::StatusCode;
use serde_json::{Value, json};
use shop_kit::testing::eventually;

use crate::town::{Town, User};

fn ids(items: &Value) -> Vec<i64> {
    items.as_array().unwrap().iter().map(|item| item["id"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn a_message_reaches_members_on_every_instance() {
    let town = Town::of(2).await;
    let (ann, bob) = (User::new("Ann"), User::new("Bob"));
    let mut here = town.enter(0, &ann, "lobby").await;
    let mut there = town.enter(1, &bob, "lobby").await;
    let mut elsewhere = town.enter(1, &bob, "other").await;
    assert_eq!((&here.welcome["user"], &here.welcome["name"]), (&json!(ann.id), &json!("Ann")));
    assert_eq!((&here.welcome["last_id"], &here.welcome["acked"]), (&json!(0), &Value::Null));

    assert_eq!(here.tell("hello <b>&amp;\u{2028}'; DROP TABLE messages;--").await, 1);
    let (own, theirs) = (here.of("message").await, there.of("message").await);
    assert_eq!(own, theirs);
    assert_eq!(own["text"], "hello <b>&amp;\u{2028}'; DROP TABLE messages;--");
    assert_eq!((&own["user"], &own["name"], &own["id"]), (&json!(ann.id), &json!("Ann"), &json!(1)));

    assert_eq!(there.tell("hello back").await, 2);
    assert_eq!(here.of("message").await["text"], "hello back");
    // What is said in one room is not heard in another.
    assert_eq!(elsewhere.tell("alone").await, 1);
    assert_eq!(elsewhere.of("message").await["text"], "alone");
}

#[tokio::test]
async fn everybody_sees_the_same_order_whoever_writes_at_once() {
    const EACH: i64 = 60;
    let town = Town::with(2, &["--messages-at-once", "1000"]).await;
    let mut clients = Vec::new();
    for (index, name) in ["Ann", "Bob", "Cid", "Dan"].into_iter().enumerate() {
        clients.push(town.enter(index % 2, &User::new(name), "lobby").await);
    }
    let last = EACH * i64::try_from(clients.len()).unwrap();
    let talk = clients.iter_mut().map(async |client| {
        for number in 0..EACH {
            client.say(&format!("message {number}")).await;
        }
        let mut seen = Vec::new();
        while seen.len() < usize::try_from(last).unwrap() {
            let message = client.of("message").await;
            seen.push((
                message["id"].as_i64().unwrap(),
                message["name"].to_string(),
                message["text"].to_string(),
            ));
        }
        seen
    });
    let seen = futures_util::future::join_all(talk).await;
    let ids: Vec<i64> = seen[0].iter().map(|(id, ..)| *id).collect();
    assert_eq!(ids, (1..=last).collect::<Vec<_>>());
    for other in &seen {
        let different = other.iter().zip(&seen[0]).find(|(one, first)| one != first);
        assert_eq!(different, None, "the second one saw the first message where it saw the other one");
    }
    // Each writer's messages are in the order in which they were written.
    for writer in ["Ann", "Bob", "Cid", "Dan"] {
        let own = seen[0].iter().filter(|(_, name, _)| name.contains(writer)).map(|(.., text)| text.clone());
        let expect = (0..EACH).map(|number| format!("\"message {number}\""));
        assert!(own.eq(expect), "{writer}");
    }
}

#[tokio::test]
async fn a_message_sent_again_is_stored_once() {
    let town = Town::of(2).await;
    let ann = User::new("Ann");
    let mut first = town.enter(0, &ann, "lobby").await;
    let mut second = town.enter(1, &ann, "lobby").await;
    let frame = json!({"type": "send", "client_id": "once", "text": "hello"});
    for client in [&mut first, &mut second] {
        for _ in 0..3 {
            client.send(&frame).await;
            assert_eq!(
                client.of("accepted").await,
                json!({"type": "accepted", "client_id": "once", "id": 1})
            );
        }
    }
    // The same name of another user's message is another message.
    let mut bob = town.enter(1, &User::new("Bob"), "lobby").await;
    bob.send(&frame).await;
    assert_eq!(bob.of("accepted").await["id"], 2);
    let history = town.http(0, &ann).get("/chat/rooms/lobby/messages").await.body;
    assert_eq!(ids(&history["items"]), [1, 2]);
    // And told once.
    first.tell("the end").await;
    let mut told = town.enter_after(1, &ann, "lobby", Some(0)).await.missed;
    told.retain(|message| message["client_id"] == "once");
    assert_eq!(told.len(), 2);
    assert_eq!(second.ids_to(3).await, [1, 2, 3]);
}

#[tokio::test]
async fn history_is_read_in_pages() {
    let town = Town::with(1, &["--messages-at-once", "100"]).await;
    let ann = User::new("Ann");
    let mut client = town.enter(0, &ann, "lobby").await;
    for number in 1..=25 {
        assert_eq!(client.tell(&format!("message {number}")).await, number);
    }
    let http = town.http(0, &ann);
    for (query, expect, more) in [
        ("", (1..=25).collect::<Vec<i64>>(), false),
        ("?limit=10", (16..=25).collect(), true),
        ("?before=16&limit=10", (6..=15).collect(), true),
        ("?before=6&limit=10", (1..=5).collect(), false),
        ("?before=1", vec![], false),
        ("?after=20", (21..=25).collect(), false),
        ("?after=0&limit=3", (1..=3).collect(), true),
        ("?after=25", vec![], false),
        ("?after=9223372036854775807", vec![], false),
    ] {
        let reply = http.get(&format!("/chat/rooms/lobby/messages{query}")).await;
        assert_eq!((ids(&reply.body["items"]), &reply.body["more"]), (expect, &json!(more)), "{query}");
    }
    for (query, status) in [
        ("?limit=0", 422),
        ("?limit=201", 422),
        ("?limit=-5", 422),
        ("?before=5&after=1", 422),
        ("?before=x", 400),
        ("?after=99999999999999999999", 400),
        ("?limit=1e3", 400),
    ] {
        let reply = http.get(&format!("/chat/rooms/lobby/messages{query}")).await;
        assert_eq!(reply.status, StatusCode::from_u16(status).unwrap(), "{query} {}", reply.body);
        assert_eq!(reply.headers["content-type"], "application/problem+json");
    }
    for room in ["Lobby", "a%20b", "%27;DROP", "..%2f", "%C3%A4"] {
        assert_eq!(
            http.get(&format!("/chat/rooms/{room}/messages")).await.status,
            StatusCode::NOT_FOUND,
            "{room}"
        );
    }
    let nobody = &town.instances[0].http;
    assert_eq!(nobody.get("/chat/rooms/lobby/messages").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn who_comes_back_gets_what_was_missed_without_gap_or_double() {
    let town = Town::with(2, &["--messages-at-once", "1000"]).await;
    let (ann, bob) = (User::new("Ann"), User::new("Bob"));
    let mut writer = town.enter(0, &ann, "lobby").await;
    for number in 1..=5 {
        writer.tell(&format!("message {number}")).await;
    }
    // Who never was there begins with what comes.
    assert_eq!(town.enter(1, &bob, "lobby").await.missed, Vec::<Value>::new());
    // More than one page, while further messages come.
    let coming = async {
        for number in 6..=350 {
            writer.tell(&format!("message {number}")).await;
        }
    };
    let reading = async {
        let mut got = Vec::new();
        for _ in 0..3 {
            let after = got.last().copied().unwrap_or(2);
            let mut reader = town.enter_after(1, &bob, "lobby", Some(after)).await;
            assert_eq!(reader.welcome["after"], json!(after));
            got.extend(reader.missed.iter().map(|message| message["id"].as_i64().unwrap()));
            got.push(reader.of("message").await["id"].as_i64().unwrap());
        }
        let mut reader = town.enter_after(1, &bob, "lobby", got.last().copied()).await;
        if got.last() < Some(&350) {
            got.extend(reader.ids_to(350).await);
        }
        got
    };
    let ((), got) = tokio::join!(coming, reading);
    assert_eq!(got, (3..=350).collect::<Vec<_>>());
    // An id that does not exist yet is no reason to miss what comes.
    let mut reader = town.enter_after(1, &bob, "lobby", Some(1_000_000)).await;
    writer.tell("one more").await;
    assert_eq!(reader.of("message").await["id"], 351);
}

#[tokio::test]
async fn acknowledgements_are_kept_and_tell_where_to_go_on() {
    let town = Town::of(2).await;
    let (ann, bob) = (User::new("Ann"), User::new("Bob"));
    let mut writer = town.enter(0, &ann, "lobby").await;
    let mut reader = town.enter(1, &bob, "lobby").await;
    for number in 1..=6 {
        writer.tell(&format!("message {number}")).await;
    }
    assert_eq!(reader.ids_to(6).await, [1, 2, 3, 4, 5, 6]);
    for id in [2, 4, 3] {
        reader.send(&json!({"type": "ack", "id": id})).await;
    }
    // One cannot have seen what is not there.
    reader.send(&json!({"type": "ack", "id": 7})).await;
    assert_eq!(reader.of("error").await["reason"], "invalid");
    eventually("it is kept for all instances", async || {
        town.enter(0, &bob, "lobby").await.welcome["acked"] == 4
    })
    .await;
    let again = town.enter(0, &bob, "lobby").await;
    let missed: Vec<_> = again.missed.iter().map(|message| message["id"].as_i64().unwrap()).collect();
    assert_eq!(missed, [5, 6]);
    assert_eq!(town.enter(0, &ann, "lobby").await.welcome["acked"], Value::Null);
}
