//! What the `OpenAPI` document says, against what is served and what goes over a WebSocket.

use std::collections::BTreeSet;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use shop_kit::testing::{Http, documented};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

use crate::{
    client::{SOON, connect},
    town::{Town, User},
};

#[tokio::test]
async fn the_document_has_exactly_the_routes() {
    let town = Town::of(1).await;
    let sources = [include_str!("../../src/api/http.rs"), include_str!("../../src/api/page.rs")];
    documented(&town.instances[0].http, &sources).await;
    for path in ["/chat", "/chat/app.js", "/chat/style.css"] {
        assert_eq!(town.instances[0].http.get(path).await.status, http::StatusCode::OK, "{path}");
    }
}

/// Reads up to the next frame of a type and holds each to the document.
async fn read_to(
    kind: &str,
    socket: &mut WebSocketStream<TcpStream>,
    http: &Http,
    seen: &mut BTreeSet<String>,
) {
    loop {
        let message = timeout(SOON, socket.next()).await.unwrap_or_else(|_| panic!("no {kind} comes"));
        let Message::Text(text) = message.unwrap().unwrap() else { continue };
        let frame: Value = serde_json::from_str(&text).unwrap();
        http.documents("ServerFrame", &frame);
        seen.insert(frame["type"].as_str().unwrap().to_owned());
        if frame["type"] == kind {
            return;
        }
    }
}

#[tokio::test]
async fn every_frame_is_as_documented() {
    let town = Town::of(1).await;
    let (ann, bob) = (User::new("Ann"), User::new("Bob"));
    let http = town.http(0, &ann);
    let path = "/chat/rooms/lobby/ws?after=0";
    let mut socket = connect(http.address(), path, &ann, &[]).await.unwrap();
    let mut seen = BTreeSet::new();
    read_to("live", &mut socket, &http, &mut seen).await;
    for (frame, answer) in [
        (json!({"type": "send", "client_id": "c1", "text": "hello"}), "message"),
        (json!({"type": "send", "client_id": "c1", "text": "hello"}), "accepted"),
        (json!({"type": "typing"}), "typing"),
        (json!({"type": "ack", "id": 2}), "error"),
    ] {
        http.documents("ClientFrame", &frame);
        socket.send(Message::text(frame.to_string())).await.unwrap();
        read_to(answer, &mut socket, &http, &mut seen).await;
    }
    let other = town.enter(0, &bob, "lobby").await;
    read_to("joined", &mut socket, &http, &mut seen).await;
    drop(other);
    read_to("left", &mut socket, &http, &mut seen).await;
    town.instances[0].begin_stop();
    read_to("reconnect", &mut socket, &http, &mut seen).await;
    let all = ["accepted", "error", "joined", "left", "live", "message", "reconnect", "typing", "welcome"];
    assert!(seen.iter().eq(all), "{seen:?}");
}
