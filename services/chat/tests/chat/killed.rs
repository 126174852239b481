//! Processes of the service killed again and again while people talk: nothing is lost, doubled or out of order.

use std::{cell::Cell, process::Command, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _, future::join_all};
use serde_json::{Value, json};
use shop_kit::testing::{Process, database, eventually, free_port, redis};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use crate::{
    client::{SOON, message_id},
    town::{Town, User},
};

const EACH: i64 = 60;
const KILLS: i64 = 4;

fn start(database: &str, redis: &str, port: u16) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shop-chat"));
    command.args(["--database-url", database, "--redis-url", redis, "--database-connections", "5"]);
    command.args(["--messages-per-second", "1000", "--messages-at-once", "1000"]);
    command.args(["--http-addr", &format!("127.0.0.1:{port}"), "--grpc-addr", "127.0.0.1:0"]);
    Process::spawn(&mut command)
}

/// Somebody who goes on talking on another instance when theirs dies.
struct Talker {
    user: User,
    /// The last message that came; each must be the one after it.
    seen: i64,
    /// How many of their own were accepted.
    accepted: i64,
}

impl Talker {
    /// Talks until all was said and heard, on the one instance or the other.
    async fn talk_on(&mut self, ports: [u16; 2], last: i64, heard: &Cell<i64>) {
        let deadline = Instant::now() + 3 * SOON;
        let mut attempts = ports.iter().cycle();
        while !self.talk(*attempts.next().unwrap(), last, heard).await {
            assert!(Instant::now() < deadline, "{} has seen {} of {last}", self.user.name, self.seen);
            // A port at which nobody listens refuses at once.
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Talks until all was said and heard, or the connection breaks; says whether it was all.
    async fn talk(&mut self, port: u16, last: i64, heard: &Cell<i64>) -> bool {
        let Some(mut socket) = self.enter(port).await else { return false };
        while let Some(Ok(message)) = timeout(SOON, socket.next()).await.expect("something comes") {
            let Message::Text(text) = message else { continue };
            let frame: Value = serde_json::from_str(&text).unwrap();
            if let Some(id) = message_id(&frame) {
                assert_eq!(id, self.seen + 1, "{} had {}", self.user.name, self.seen);
                self.seen = id;
                heard.set(heard.get().max(id));
            }
            let mine = frame["client_id"] == self.client_id().as_str();
            if frame["type"] == "accepted" && mine {
                self.accepted += 1;
            }
            if self.seen == last && self.accepted == EACH {
                return true;
            }
            // Each is said until it is accepted, under the same name.
            let next = frame["type"] == "live" || frame["type"] == "accepted" && mine;
            if next && self.accepted < EACH && socket.send(self.message()).await.is_err() {
                break;
            }
        }
        false
    }

    async fn enter(&self, port: u16) -> Option<WebSocketStream<TcpStream>> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let url = format!("ws://127.0.0.1:{port}/chat/rooms/lobby/ws?after={}", self.seen);
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("x-user-id", self.user.id.to_string().parse().unwrap());
        client_async(request, stream).await.ok().map(|(socket, _)| socket)
    }

    fn client_id(&self) -> String {
        format!("{}-{}", self.user.name, self.accepted)
    }

    fn message(&self) -> Message {
        let said = json!({"type": "send", "client_id": self.client_id(), "text": "hello"});
        Message::text(said.to_string())
    }
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_when_instances_are_killed() {
    let (database, redis) = (database().await, redis().await);
    let ports = [free_port(), free_port()];
    let mut processes = ports.map(|port| start(&database, &redis, port));
    let names = ["Ann", "Bob", "Cid", "Dan"];
    let last = EACH * 4;
    let heard = Cell::new(0);

    let talking = join_all(names.iter().enumerate().map(async |(index, name)| {
        let mut talker = Talker { user: User::new(name), seen: 0, accepted: 0 };
        talker.talk_on([ports[index % 2], ports[1 - index % 2]], last, &heard).await;
    }));
    let killing = async {
        for kill in 1..=KILLS {
            let reached = last * kill / (KILLS + 1);
            eventually("they have talked on", async || heard.get() >= reached).await;
            let index = usize::try_from(kill).unwrap() % 2;
            processes[index].kill();
            processes[index] = start(&database, &redis, ports[index]);
        }
    };
    tokio::join!(talking, killing);
    // Whatever was said more than once is there once.
    let town = Town::on(&database, &redis, 1, &[]).await;
    let ann = User::new("Ann");
    let all = town.enter_after(0, &ann, "lobby", Some(0)).await;
    assert_eq!(all.welcome["last_id"], last);
    let mut names: Vec<_> = all.missed.iter().map(|message| message["client_id"].as_str().unwrap()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), usize::try_from(last).unwrap());
}
