//! Text that would be a command to PostgreSQL, Redis, Lua, a log or a page, were it ever taken for one.

use http::StatusCode;
use redis::cmd;
use serde_json::{Value, json};
use shop_kit::redis::Redis;

use crate::{
    client::{Client, connect},
    town::{Town, User},
};

const HOSTILE: [&str; 10] = [
    "'; DROP TABLE messages; --",
    "$1 \\'; DELETE FROM rooms WHERE ''='",
    "') redis.call('FLUSHALL') --",
    "]] redis.call('FLUSHALL') [[",
    "1\r\n*1\r\n$8\r\nFLUSHALL\r\n",
    "{lobby}:present * ?[a-z]",
    "7@1 {\"type\":\"message\",\"id\":7}",
    "\"},{\"type\":\"left\"",
    "%s %n {} {0} ${jndi:ldap://x}",
    "<script>alert(1)</script>\u{202e}",
];

#[tokio::test]
async fn what_looks_like_a_command_comes_back_as_it_was_written() {
    let town = Town::of(2).await;
    let redis = Redis::new(town.redis.parse().unwrap()).unwrap();
    redis.run::<()>(cmd("SET").arg("canary").arg("alive")).await.unwrap();
    // A name comes from a header, in which there are no line ends.
    let mallory = User::new("'); DROP TABLE seen; -- {lobby}' redis.call('FLUSHALL')");
    let bob = User::new("Bob");
    let mut here = town.enter(0, &mallory, "lobby").await;
    let mut there = town.enter(1, &bob, "lobby").await;
    for (number, text) in HOSTILE.iter().enumerate() {
        let client_id: String = text.chars().filter(char::is_ascii_graphic).take(60).collect();
        let client_id = format!("{client_id}-{number}");
        here.send(&json!({"type": "send", "client_id": client_id, "text": text})).await;
        let accepted = here.of("accepted").await;
        assert_eq!(accepted["client_id"], client_id.as_str());
        let told = there.of("message").await;
        assert_eq!((&told["text"], &told["client_id"]), (&json!(text), &json!(client_id)));
        assert_eq!(told["name"], mallory.name);
    }
    let history = town.http(1, &bob).get("/chat/rooms/lobby/messages").await.body;
    let texts: Vec<_> = history["items"].as_array().unwrap().iter().map(|item| &item["text"]).collect();
    assert_eq!(texts, HOSTILE.map(Value::from).iter().collect::<Vec<_>>());
    let people = town.http(1, &bob).get("/chat/rooms/lobby/people").await.body;
    let names: Vec<_> = people["items"].as_array().unwrap().iter().map(|person| &person["name"]).collect();
    assert!(names.contains(&&json!(mallory.name)), "{people}");
    assert_eq!(redis.run::<String>(cmd("GET").arg("canary")).await.unwrap(), "alive");
}

/// Every byte as `%xx`.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat()
}

#[tokio::test]
async fn what_looks_like_a_command_names_no_room() {
    let town = Town::of(1).await;
    let ann = User::new("Ann");
    let mut client: Client = town.enter(0, &ann, "lobby").await;
    let http = town.http(0, &ann);
    for name in HOSTILE {
        let room = format!("/chat/rooms/{}", encoded(name));
        for path in [format!("{room}/messages"), format!("{room}/people")] {
            let reply = http.get(&path).await;
            assert_eq!(
                (reply.status, &reply.body["type"]),
                (StatusCode::NOT_FOUND, &json!("urn:problem:shop:not-found"))
            );
        }
        let refused = connect(http.address(), &format!("{room}/ws"), &ann, &[]).await;
        assert_eq!(refused.unwrap_err(), StatusCode::NOT_FOUND, "{name}");
    }
    assert_eq!(client.tell("still here").await, 1);
}
