//! How connections end: tokens, silence, too much, too slow, and an instance that stops.

use std::{pin::pin, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use serde_json::{Value, json};
use shop_kit::testing::eventually;
use tokio::{net::TcpSocket, time::timeout};
use tokio_tungstenite::{
    client_async_with_config,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use crate::{
    client::{Client, SOON, connect, message_id},
    town::{Town, User},
};

const PATH: &str = "/chat/rooms/lobby/ws";

fn now() -> i64 {
    shop_kit::clock::now().unix_timestamp()
}

/// The id of the last message once this frame has come: ids leave none out.
fn follow(last: i64, frame: &Value) -> i64 {
    let Some(id) = message_id(frame) else { return last };
    assert_eq!(id, last + 1);
    id
}

#[tokio::test]
async fn a_connection_ends_when_its_token_expires() {
    let town = Town::of(1).await;
    let ann = User::new("Ann");
    let address = town.instances[0].http.address();
    let expires = [("x-token-expires", (now() + 2).to_string())];
    let mut client = Client::open(address, PATH, &ann, &expires).await.unwrap();
    assert_eq!(client.tell("in time").await, 1);
    assert_eq!(client.end().await.unwrap(), (4401, "the token has expired".into()));
    let mut late =
        connect(address, PATH, &ann, &[("x-token-expires", (now() - 5).to_string())]).await.unwrap();
    let code = timeout(SOON, async {
        let closing = late.by_ref().filter_map(async |message| match message.unwrap() {
            Message::Close(frame) => frame.map(|frame| u16::from(frame.code)),
            _ => None,
        });
        pin!(closing).next().await
    });
    assert_eq!(code.await.unwrap(), Some(4401));
    let unreadable = connect(address, PATH, &ann, &[("x-token-expires", "soon".into())]).await;
    assert_eq!(unreadable.unwrap_err(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn what_is_no_handshake_is_refused() {
    let town = Town::of(1).await;
    let ann = User::new("Ann");
    let address = town.instances[0].http.address();
    for (path, status) in [
        ("/chat/rooms/Lobby/ws", StatusCode::NOT_FOUND),
        ("/chat/rooms/lobby/ws?after=-1", StatusCode::UNPROCESSABLE_ENTITY),
        ("/chat/rooms/lobby/ws?after=x", StatusCode::BAD_REQUEST),
        ("/chat/rooms/lobby/ws?after=1%27%3BDROP%20TABLE%20rooms", StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(connect(address, path, &ann, &[]).await.unwrap_err(), status, "{path}");
    }
    let plain = town.http(0, &ann).get(PATH).await;
    assert_eq!(
        (plain.status, &plain.body["type"]),
        (StatusCode::BAD_REQUEST, &json!("urn:problem:shop:not-a-websocket"))
    );
    assert_eq!(town.instances[0].http.get(PATH).await.status, StatusCode::UNAUTHORIZED);
    // None of them counts as a member.
    assert_eq!(town.http(0, &ann).get("/chat/rooms/lobby/people").await.body["count"], 0);
}

#[tokio::test]
async fn a_user_has_so_many_connections() {
    let town = Town::with(1, &["--connections-per-user", "2"]).await;
    let ann = User::new("Ann");
    let first = town.enter(0, &ann, "lobby").await;
    let _second = town.enter(0, &ann, "other").await;
    let address = town.instances[0].http.address();
    let mut third = connect(address, PATH, &ann, &[]).await.unwrap();
    match timeout(SOON, third.next()).await.unwrap() {
        Some(Ok(Message::Close(Some(frame)))) => assert_eq!(u16::from(frame.code), 4429),
        other => panic!("{other:?}"),
    }
    let _bob = town.enter(0, &User::new("Bob"), "lobby").await;
    drop(first);
    eventually("there is room again", async || {
        let mut again = connect(address, PATH, &ann, &[]).await.unwrap();
        matches!(timeout(SOON, again.next()).await.unwrap(), Some(Ok(Message::Text(_))))
    })
    .await;
}

#[tokio::test]
async fn who_writes_too_fast_is_told_when_to_go_on() {
    let town = Town::with(1, &["--messages-per-second", "2", "--messages-at-once", "3"]).await;
    let ann = User::new("Ann");
    let mut client = town.enter(0, &ann, "lobby").await;
    let mut other = town.enter(0, &ann, "other").await;
    for _ in 0..3 {
        client.tell("fast").await;
    }
    // The pace is the user's, whatever they write where.
    let client_id = other.say("too fast").await;
    let error = other.of("error").await;
    assert_eq!((&error["reason"], &error["client_id"]), (&json!("rate-limited"), &json!(client_id)));
    let wait = error["retry_after_ms"].as_u64().unwrap();
    assert!((1..=500).contains(&wait), "{wait}");
    tokio::time::sleep(Duration::from_millis(wait)).await;
    assert_eq!(other.tell("in time").await, 1);
    // Who goes on regardless is sent away.
    for _ in 0..60 {
        // It may be closed before all are sent.
        client
            .socket
            .send(Message::text(json!({"type": "send", "client_id": "x", "text": "x"}).to_string()))
            .await
            .ok();
    }
    assert_eq!(client.end().await.unwrap().0, 1008);
}

#[tokio::test]
async fn who_is_silent_is_given_up_and_who_answers_pings_is_not() {
    let town = Town::with(1, &["--idle-timeout", "600ms"]).await;
    let mut silent = town.enter(0, &User::new("Ann"), "lobby").await;
    let mut alive = town.enter(0, &User::new("Bob"), "lobby").await;
    // A client that does not read does not answer pings.
    let ann_leaves =
        alive.until("Ann is given up", |frame| frame["type"] == "left" && frame["name"] == "Ann");
    ann_leaves.await;
    assert_eq!(silent.end().await.unwrap(), (4408, "nothing was heard for too long".into()));
    assert_eq!(alive.tell("still here").await, 1);
}

/// A town whose writers may say more than a slow reader's queue holds, and that waits so long for one who takes nothing.
async fn flooded(instances: usize, send_timeout: &str) -> Town {
    let pace = ["--messages-per-second", "10000", "--messages-at-once", "10000"];
    let reader = ["--queue", "32", "--send-timeout", send_timeout];
    Town::with(instances, &[pace.as_slice(), &reader].concat()).await
}

#[tokio::test]
async fn who_takes_messages_too_slowly_is_dropped_and_misses_nothing() {
    let town = flooded(2, "60s").await;
    let (ann, bob) = (User::new("Ann"), User::new("Bob"));
    let mut writer = town.enter(0, &ann, "lobby").await;
    // The writer is on another instance than the slow one, who goes there then.
    let address = town.instances[1].http.address();
    let mut request = format!("ws://{address}{PATH}").into_client_request().unwrap();
    request.headers_mut().insert("x-user-id", bob.id.to_string().parse().unwrap());
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(address.parse().unwrap()).await.unwrap();
    let (mut slow, _) = client_async_with_config(request, stream, None).await.unwrap();
    // More than all buffers on the way hold.
    let text = "x".repeat(16 * 1024);
    for _ in 0..700 {
        writer.tell(&text).await;
    }
    let mut last = 0;
    let code = loop {
        match timeout(SOON, slow.next()).await.unwrap() {
            Some(Ok(Message::Text(frame))) => {
                let frame: Value = serde_json::from_str(&frame).unwrap();
                last = follow(last, &frame);
            }
            Some(Ok(Message::Close(frame))) => break u16::from(frame.unwrap().code),
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(code, 1013);
    assert_eq!(town.metric(1, r#"shop_chat_connections_ended_total{reason="too-slow"}"#).await, 1);
    assert!((1..700).contains(&last), "{last}");
    let again = town.enter_after(0, &bob, "lobby", Some(last)).await;
    let missed: Vec<i64> = again.missed.iter().map(|message| message["id"].as_i64().unwrap()).collect();
    assert_eq!(missed, (last + 1..=700).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_client_that_takes_nothing_at_all_does_not_hold_anybody_up() {
    let town = flooded(1, "300ms").await;
    let (ann, bob) = (User::new("Ann"), User::new("Bob"));
    let mut writer = town.enter(0, &ann, "lobby").await;
    let stuck = town.enter(0, &bob, "lobby").await;
    let text = "x".repeat(16 * 1024);
    for _ in 0..700 {
        writer.tell(&text).await;
    }
    eventually("the stuck client is given up", async || {
        town.http(0, &ann).get("/chat/rooms/lobby/people").await.body["count"] == 1
    })
    .await;
    let stuck_ones = r#"shop_chat_connections_ended_total{reason="stuck"}"#;
    eventually("it is counted", async || town.metric(0, stuck_ones).await == 1).await;
    drop(stuck);
}

#[tokio::test]
async fn an_instance_that_stops_sends_clients_away_and_loses_nothing() {
    let mut town = Town::with(2, &["--messages-at-once", "1000"]).await;
    let (ann, bob) = (User::new("Ann"), User::new("Bob"));
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(town.enter(0, &User::new("Cid"), "lobby").await);
    }
    let mut writer = town.enter(0, &ann, "lobby").await;
    let mut reader = town.enter(1, &bob, "lobby").await;
    let mut said = Vec::new();
    for number in 0..20 {
        said.push(writer.say(&format!("message {number}")).await);
    }
    let stopped = town.instances.remove(0);
    let address = stopped.http.address().to_owned();
    stopped.begin_stop();
    // All that was accepted is there; what was not accepted is sent again under the same name.
    let mut accepted = Vec::new();
    let (code, _) = loop {
        match timeout(SOON, writer.socket.next()).await.unwrap().unwrap().unwrap() {
            Message::Text(frame) => {
                let frame: Value = serde_json::from_str(&frame).unwrap();
                let name = frame["client_id"].as_str().filter(|_| frame["type"] == "accepted");
                accepted.extend(name.map(str::to_owned));
            }
            Message::Close(frame) => break frame.map(|f| (u16::from(f.code), f.reason)).unwrap(),
            _ => {}
        }
    };
    assert_eq!(code, 1012);
    let mut waits = Vec::new();
    for client in &mut clients {
        waits.push(client.of("reconnect").await["after_ms"].as_u64().unwrap());
        assert_eq!(client.end().await.unwrap().0, 1012);
    }
    assert!(waits.iter().all(|wait| *wait < 5000), "{waits:?}");
    waits.dedup();
    assert!(waits.len() > 1, "they all come back at once: {waits:?}");
    stopped.stop().await.unwrap();
    assert!(tokio::net::TcpStream::connect(&address).await.is_err());

    let mut again = town.enter_after(0, &ann, "lobby", Some(0)).await;
    let stored: Vec<&str> =
        again.missed.iter().map(|message| message["client_id"].as_str().unwrap()).collect();
    for client_id in &accepted {
        assert_eq!(stored.iter().filter(|stored| *stored == client_id).count(), 1, "{client_id}");
    }
    for (number, client_id) in said.iter().enumerate() {
        let text = format!("message {number}");
        again.send(&json!({"type": "send", "client_id": client_id, "text": text})).await;
        again.of("accepted").await;
    }
    assert_eq!(reader.ids_to(20).await, (1..=20).collect::<Vec<_>>());
}
