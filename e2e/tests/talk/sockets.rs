//! WebSockets of the chat through gateway and sidecar: who gets in, what passes, and what ends a connection.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use weft_e2e::client::get;

use crate::shop::Shop;

const SOON: Duration = Duration::from_secs(20);

struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    /// Enters the lobby; the error is the status of the answer and the reason of the proxy.
    async fn enter(shop: &Shop, query: &str) -> Result<Self, (u16, String)> {
        let url = format!("ws://{}/api/chat/rooms/lobby/ws?{query}", shop.gateway);
        match connect_async(url).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(Error::Http(answer)) => {
                let reason = answer.headers().get("x-weft-reason").map(|value| value.to_str().unwrap());
                Err((answer.status().as_u16(), reason.unwrap_or_default().to_owned()))
            }
            Err(error) => panic!("{error}"),
        }
    }

    async fn send(&mut self, frame: &Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    /// The next frame of this type.
    async fn of(&mut self, kind: &str) -> Value {
        loop {
            let next = timeout(SOON, self.0.next()).await.unwrap_or_else(|_| panic!("no {kind} comes"));
            let Message::Text(text) = next.unwrap().unwrap() else { continue };
            let frame: Value = serde_json::from_str(&text).unwrap();
            if frame["type"] == kind {
                return frame;
            }
        }
    }

    /// The code that ends the connection.
    async fn end(&mut self) -> u16 {
        loop {
            match timeout(SOON, self.0.next()).await.expect("the connection ends") {
                Some(Ok(Message::Close(frame))) => return frame.unwrap().code.into(),
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn people_on_different_instances_talk_through_two_proxies_each() {
    let shop = Shop::open("15m").await;
    let (ann, bob) = (shop.log_in("Ann").await, shop.log_in("Zoë").await);
    let mut here = Client::enter(&shop, &format!("access_token={ann}")).await.unwrap();
    assert_eq!(here.of("welcome").await["name"], "Ann");
    // Whichever instance it is: one of several is the other one.
    let mut others = Vec::new();
    for _ in 0..4 {
        let mut other = Client::enter(&shop, &format!("after=0&access_token={bob}")).await.unwrap();
        assert_eq!(other.of("welcome").await["name"], "Zoë");
        others.push(other);
    }
    here.send(&json!({"type": "send", "client_id": "1", "text": "hello"})).await;
    assert_eq!(here.of("accepted").await["id"], 1);
    for other in &mut others {
        assert_eq!(other.of("message").await["text"], "hello");
    }
    let megabyte = json!({"type": "send", "client_id": "2", "text": "x".repeat(1 << 20)});
    here.send(&megabyte).await;
    assert_eq!(here.end().await, 1009);
}

#[tokio::test]
async fn only_who_is_logged_in_gets_in_and_for_as_long_as_the_token_is_valid() {
    let shop = Shop::open("6s").await;
    let ann = shop.log_in("Ann").await;
    let refused = async |query: &str| Client::enter(&shop, query).await.map(|_| ()).unwrap_err();
    assert_eq!(refused("").await, (401, "jwt-missing".into()));
    assert_eq!(refused("access_token=nonsense").await, (401, "jwt-malformed".into()));
    let last = ann.len() - 5;
    let forged = format!("{}AAAAA", ann.get(..last).unwrap());
    assert_eq!(refused(&format!("access_token={forged}")).await, (401, "jwt-signature".into()));
    // The page is for everybody, what is said in the rooms is not.
    assert_eq!(get(shop.gateway, "/api/chat").await.status, 200);
    assert_eq!(get(shop.gateway, "/api/chat/rooms/lobby/messages").await.status, 401);

    let mut client = Client::enter(&shop, &format!("access_token={ann}")).await.unwrap();
    client.send(&json!({"type": "send", "client_id": "1", "text": "in time"})).await;
    assert_eq!(client.of("accepted").await["id"], 1);
    assert_eq!(client.end().await, 4401);
}
