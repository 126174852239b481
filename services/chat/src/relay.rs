//! Between the instances: what happens in a room is published once and reaches every instance that has members of it.
//!
//! One channel per room, sharded where the server can (Redis 7: a cluster sends it to the one node that the name of the
//! room hashes to, not to all). An instance subscribes to the channels of its own rooms only. What gets lost here, the
//! rooms find again in the database.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ProtocolVersion, PushInfo, PushKind, RedisResult,
    Value, aio::MultiplexedConnection, cmd, pipe,
};
use shop_kit::{clock, redis::Redis};
use time::OffsetDateTime;
use tokio::{sync::Notify, time::sleep};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tracing::{info, warn};

use crate::{
    domain::{frame::MessageId, room::Room},
    rooms::{Arrival, Rooms, Told},
};

const PATIENCE: Duration = Duration::from_millis(500);
const NANOS_PER_MICRO: i128 = 1000;
const ASK_EVERY: Duration = Duration::from_secs(5);
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(2);

/// Tells other instances and is told by them.
pub struct Relay {
    redis: Redis,
    listener: Client,
    rooms: Arc<Rooms>,
    /// What the names of our channels begin with: channels do not belong to a database of the server, so its number is in
    /// it.
    prefix: Arc<str>,
    /// Whether the server speaks of sharded channels; until it was asked, it does.
    sharded: AtomicBool,
}

impl Relay {
    /// A relay for these rooms; nothing is connected yet.
    pub fn new(server: ConnectionInfo, redis: Redis, rooms: Arc<Rooms>) -> RedisResult<Self> {
        let prefix = format!("chat:{}:", server.redis_settings().db()).into();
        // Only in RESP3 can a connection ask for further channels while it listens to some.
        let settings = server.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let listener = Client::open(server.set_redis_settings(settings))?;
        Ok(Self { redis, listener, rooms, prefix, sharded: AtomicBool::new(true) })
    }

    /// Tells the other instances of a message that was stored.
    pub async fn stored(&self, room: &Room, id: MessageId, frame: &Utf8Bytes) {
        let micros = clock::now().unix_timestamp_nanos() / NANOS_PER_MICRO;
        self.publish(room, &format!("{}@{micros} {frame}", id.0)).await;
    }

    /// Tells all instances, this one included, of something that is not stored.
    pub async fn event(&self, room: &Room, frame: &Utf8Bytes) {
        self.publish(room, &format!("- {frame}")).await;
    }

    async fn publish(&self, room: &Room, payload: &str) {
        let name = if self.sharded.load(Ordering::Relaxed) { "SPUBLISH" } else { "PUBLISH" };
        // That Redis is gone is logged by the kit; messages are found again, events are missed.
        self.redis.run::<i64>(cmd(name).arg(self.channel(room)).arg(payload)).await.ok();
    }

    /// Listens until dropped.
    pub async fn listen(&self) {
        let mut retry = FIRST_RETRY;
        loop {
            let mut connected = false;
            let Err(error) = self.session(&mut connected).await;
            if connected {
                retry = FIRST_RETRY;
                warn!(%error, "other instances are not heard");
            }
            sleep(retry).await;
            retry = (retry * 2).min(LAST_RETRY);
        }
    }

    /// Listens until the connection is lost.
    async fn session(&self, connected: &mut bool) -> RedisResult<Infallible> {
        let lost = Arc::new(Notify::new());
        let mut connection = self.connect(lost.clone()).await?;
        let known: Value = cmd("COMMAND").arg("INFO").arg("SPUBLISH").query_async(&mut connection).await?;
        let sharded = !matches!(&known, Value::Array(all) if all.contains(&Value::Nil));
        self.sharded.store(sharded, Ordering::Relaxed);
        *connected = true;
        info!(sharded, "listening to other instances");
        let mut heard = BTreeSet::new();
        loop {
            self.subscribe(&mut connection, &mut heard).await?;
            tokio::select! {
                () = self.rooms.changed() => {}
                () = lost.notified() => {}
                () = sleep(ASK_EVERY) => {}
            }
            // A connection that hangs says nothing of itself.
            cmd("PING").query_async::<()>(&mut connection).await?;
        }
    }

    async fn connect(&self, lost: Arc<Notify>) -> RedisResult<MultiplexedConnection> {
        let (rooms, prefix) = (self.rooms.clone(), self.prefix.clone());
        let take = move |push: PushInfo| -> Result<(), Infallible> {
            if push.kind == PushKind::Disconnection {
                lost.notify_one();
            } else if matches!(push.kind, PushKind::SMessage | PushKind::Message) {
                take(&rooms, &prefix, push.data);
            }
            Ok(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE))
            .set_push_sender(take);
        self.listener.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Brings the subscriptions in line with the rooms that there are now.
    async fn subscribe(
        &self,
        connection: &mut MultiplexedConnection,
        heard: &mut BTreeSet<Room>,
    ) -> RedisResult<()> {
        let wanted: BTreeSet<Room> = self.rooms.all().into_iter().collect();
        let new: Vec<Room> = wanted.difference(heard).cloned().collect();
        let old: Vec<Room> = heard.difference(&wanted).cloned().collect();
        if new.is_empty() && old.is_empty() {
            return Ok(());
        }
        // A command for each: its answer is one then.
        let mut commands = pipe();
        for room in &new {
            commands.add_command(self.command("SUBSCRIBE", room)).ignore();
        }
        for room in &old {
            commands.add_command(self.command("UNSUBSCRIBE", room)).ignore();
        }
        commands.query_async::<()>(connection).await?;
        *heard = wanted;
        // What was said before the channel was heard is in the database.
        for room in &new {
            self.rooms.arrive(room, Arrival::Look);
        }
        Ok(())
    }

    fn command(&self, name: &str, room: &Room) -> Cmd {
        let prefix = if self.sharded.load(Ordering::Relaxed) { "S" } else { "" };
        let mut command = cmd(&format!("{prefix}{name}"));
        command.arg(self.channel(room));
        command
    }

    fn channel(&self, room: &Room) -> String {
        format!("{}{room}", self.prefix)
    }
}

/// Hands what came over a channel to the members of its room.
fn take(rooms: &Rooms, prefix: &str, data: Vec<Value>) {
    let mut parts = data.into_iter();
    let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) = (parts.next(), parts.next())
    else {
        return;
    };
    let room =
        std::str::from_utf8(&channel).ok().and_then(|name| name.strip_prefix(prefix)).and_then(Room::parse);
    if let Some((room, arrival)) = room.zip(arrival(payload)) {
        rooms.arrive(&room, arrival);
    } else {
        warn!(channel = %channel.escape_ascii(), "something else comes over a channel of ours");
    }
}

/// `<id>@<microseconds since 1970> <frame>` for a message, `- <frame>` for an event.
fn arrival(payload: Vec<u8>) -> Option<Arrival> {
    let payload = bytes::Bytes::from(payload);
    let space = payload.iter().position(|b| *b == b' ')?;
    let head = payload.slice(..space);
    let frame = Utf8Bytes::try_from(payload.slice(space + 1..)).ok()?;
    if &*head == b"-" {
        return Some(Arrival::Event(frame));
    }
    let (id, micros) = std::str::from_utf8(&head).ok()?.split_once('@')?;
    let (id, micros): (i64, i64) = (id.parse().ok()?, micros.parse().ok()?);
    let published = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * NANOS_PER_MICRO).ok();
    (id > 0).then_some(Arrival::Message(Told { id: MessageId(id), frame, published }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_instances_send_is_taken() {
        for (payload, expect) in [
            ("7@1700000000000000 {\"a\":1}", Some((Some(7), "{\"a\":1}"))),
            ("- {}", Some((None, "{}"))),
            ("- two words", Some((None, "two words"))),
            ("", None),
            ("7", None),
            ("7 {}", None),
            ("7@ {}", None),
            ("7@x {}", None),
            ("0@1 {}", None),
            ("-7@1 {}", None),
            ("x@1 {}", None),
            ("99999999999999999999@1 {}", None),
        ] {
            let got = arrival(payload.as_bytes().to_vec()).map(|arrival| match arrival {
                Arrival::Message(message) => (Some(message.id.0), message.frame),
                Arrival::Event(frame) => (None, frame),
                Arrival::Look => unreachable!("nobody sends it"),
            });
            let got = got.as_ref().map(|(id, frame)| (*id, frame.as_str()));
            assert_eq!(got, expect, "{payload}");
        }
        assert!(arrival(b"7@1 \xff".to_vec()).is_none());
        let Some(Arrival::Message(told)) = arrival(b"7@1700000000000001 {}".to_vec()) else {
            panic!("it is one")
        };
        assert_eq!(told.published.unwrap().unix_timestamp_nanos(), 1_700_000_000_000_001_000);
    }
}
