//! The life of one connection: welcome, what was missed, what happens, until one side ends it.
//!
//! The order is what makes it whole: it listens to the room first, then reads from the database, then passes on what it
//! heard meanwhile and leaves out what it has sent already.

mod frames;

use std::{sync::Arc, time::Duration};

use futures_util::future::OptionFuture;
use rand::RngExt as _;
use shop_kit::{clock, errors::chain};
use time::OffsetDateTime;
use tokio::{
    sync::broadcast::{
        Receiver,
        error::{RecvError, TryRecvError},
    },
    time::{Instant, Interval, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tracing::{debug, warn};

use self::frames::Frames;
use crate::{
    chat::Chat,
    domain::{
        closing::Closing,
        frame::{MessageId, Outgoing, Person},
    },
    metrics::{Batch, Ended, Way},
    people::Connected,
    rooms::{Delivery, Membership, Told},
    socket::{Gone, Received, Socket},
    store::Standing,
};

/// Messages that are read from the database at once.
const PAGE: i64 = 100;
/// Deliveries that go out together.
const TOGETHER: usize = 64;
/// Clients of an instance that stops come back within this time, evenly.
const COME_BACK_WITHIN: Duration = Duration::from_secs(5);

/// Who is connected, to what, and from where on.
pub struct Guest {
    /// Who.
    pub person: Person,
    /// When their token expires, where it does.
    pub expires: Option<OffsetDateTime>,
    /// Their place in the room.
    pub membership: Membership,
    /// Where they stand in it.
    pub standing: Standing,
    /// The message after which messages are to follow.
    pub after: MessageId,
}

impl From<Gone> for Ended {
    fn from(_: Gone) -> Self {
        Ended::Gone
    }
}

/// Serves a connection to its end.
pub async fn serve(chat: Arc<Chat>, guest: Guest, socket: Socket) {
    let room = guest.membership.room().clone();
    let Some(connected) = chat.people.connect(guest.person.user, Instant::now()) else {
        chat.counters.ended(Ended::Closed(Closing::TooManyConnections));
        return socket.close(Closing::TooManyConnections).await;
    };
    let _open = chat.counters.open();
    let person = guest.person.clone();
    let mut connection = Connection::new(chat.clone(), guest, connected, socket);
    chat.presence.enter(&room, &person).await;
    let Err(end) = connection.run().await;
    let Connection { socket, guest, connected, .. } = connection;
    // Whoever closes a connection to open another one must find its place free.
    drop((guest, connected));
    chat.presence.leave(&room, &person).await;
    chat.counters.ended(end);
    match end {
        Ended::Gone => socket.end().await,
        Ended::Stuck => debug!(%room, user = %person.user, "a client takes nothing any more"),
        Ended::Closed(why) => {
            debug!(%room, user = %person.user, code = why.code(), reason = why.reason(), "connection closed");
            socket.close(why).await;
        }
    }
}

struct Connection {
    chat: Arc<Chat>,
    guest: Guest,
    connected: Connected,
    socket: Socket,
    frames: Frames,
    /// The last message that was sent.
    at: MessageId,
    heard: Instant,
}

enum Next {
    Received(Received),
    Delivery(Result<Delivery, RecvError>),
    Tick,
    Expired,
    Closing,
}

impl Connection {
    fn new(chat: Arc<Chat>, guest: Guest, connected: Connected, socket: Socket) -> Self {
        let now = Instant::now();
        let frames = Frames::new(chat.people.pace(), now);
        Self { at: guest.after, chat, guest, connected, socket, frames, heard: now }
    }

    async fn run(&mut self) -> Result<std::convert::Infallible, Ended> {
        self.welcome().await?;
        let mut live = self.catch_up().await?;
        self.send(Outgoing::Live { id: self.at }.text()).await?;
        let expiry = OptionFuture::from(self.guest.expires.map(|at| sleep(left(at))));
        tokio::pin!(expiry);
        let closing = self.chat.service.closing().clone();
        let mut tick = ticks(self.chat.patience.idle / 3);
        loop {
            let next = tokio::select! {
                received = self.socket.receive() => Next::Received(received),
                delivery = live.recv() => Next::Delivery(delivery),
                _ = tick.tick() => Next::Tick,
                Some(()) = &mut expiry => Next::Expired,
                () = closing.cancelled() => Next::Closing,
            };
            match next {
                Next::Received(received) => {
                    self.take(received).await?;
                    // Who writes much must not fall behind with reading for that.
                    self.deliver_waiting(&mut live).await?;
                }
                Next::Delivery(delivery) => self.deliver(delivery, &mut live).await?,
                Next::Tick => self.ask().await?,
                Next::Expired => return Err(Ended::Closed(Closing::Expired)),
                Next::Closing => return Err(self.send_away().await),
            }
        }
    }

    async fn welcome(&mut self) -> Result<(), Ended> {
        let room = self.guest.membership.room().clone();
        let present = self.chat.presence.list(&room).await.ok();
        let Standing { last, acked } = self.guest.standing;
        let welcome = Outgoing::Welcome {
            room: room.as_str(),
            person: &self.guest.person,
            last_id: last,
            after: self.at,
            acked,
            present: present.as_ref().map(|present| &present.people[..]),
            present_count: present.as_ref().map(|present| present.count),
        };
        let text = welcome.text();
        self.send(text).await
    }

    /// Sends all messages after the last one that was sent, and answers with what follows them. However much there is
    /// and however long it takes, the room's queue does not run over meanwhile: for each page it is another one.
    async fn catch_up(&mut self) -> Result<Receiver<Delivery>, Ended> {
        loop {
            let live = self.guest.membership.listen();
            let page = self.chat.store.after(self.guest.membership.room(), self.at, PAGE).await;
            let page = page.map_err(|error| {
                warn!(error = chain(&error), "missed messages cannot be read");
                Ended::Closed(Closing::Unavailable)
            })?;
            let mut batch = Batch::default();
            for message in &page {
                let message = Told::here(message.id, Outgoing::Message(message).text());
                self.put_message(message, &mut batch).await?;
            }
            self.flush().await?;
            self.chat.counters.delivered(Way::Replayed, &batch, clock::now());
            if page.len() < usize::try_from(PAGE).unwrap_or_default() {
                return Ok(live);
            }
        }
    }

    async fn take(&mut self, received: Received) -> Result<(), Ended> {
        self.heard = Instant::now();
        match received {
            Received::Text(text) => self.frame(&text).await,
            Received::Alive => Ok(()),
            Received::Bad(why) => Err(Ended::Closed(why)),
            Received::Gone => Err(Ended::Gone),
        }
    }

    async fn deliver_waiting(&mut self, live: &mut Receiver<Delivery>) -> Result<(), Ended> {
        match live.try_recv() {
            Ok(delivery) => self.deliver(Ok(delivery), live).await,
            Err(TryRecvError::Lagged(_)) => Err(Ended::Closed(Closing::TooSlow)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => Ok(()),
        }
    }

    /// Sends what happened, and whatever else has happened by now.
    async fn deliver(
        &mut self,
        first: Result<Delivery, RecvError>,
        live: &mut Receiver<Delivery>,
    ) -> Result<(), Ended> {
        let mut next = match first {
            Ok(delivery) => delivery,
            Err(RecvError::Lagged(_)) => return Err(Ended::Closed(Closing::TooSlow)),
            // A room is followed as long as it has members, unless the service stops.
            Err(RecvError::Closed) => return Err(self.send_away().await),
        };
        let mut batch = Batch::default();
        for _ in 0..TOGETHER {
            match next {
                Delivery::Event(frame) => self.put(frame).await?,
                Delivery::Message(message) if message.id <= self.at => {}
                Delivery::Message(message) if message.id == self.at.next() => {
                    self.put_message(message, &mut batch).await?;
                }
                Delivery::Message(_) => *live = self.catch_up().await?,
            }
            next = match live.try_recv() {
                Ok(delivery) => delivery,
                Err(TryRecvError::Lagged(_)) => return Err(Ended::Closed(Closing::TooSlow)),
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            };
        }
        self.flush().await?;
        self.chat.counters.delivered(Way::Live, &batch, clock::now());
        Ok(())
    }

    /// Asks the client whether it is there, or gives it up.
    async fn ask(&mut self) -> Result<(), Ended> {
        if self.heard.elapsed() > self.chat.patience.idle {
            return Err(Ended::Closed(Closing::Idle));
        }
        within(self.chat.patience.send, self.socket.ping()).await
    }

    /// Tells the client to come back, to another instance, at a time of its own.
    async fn send_away(&mut self) -> Ended {
        let most = u64::try_from(COME_BACK_WITHIN.as_millis()).unwrap_or_default();
        let after_ms = rand::rng().random_range(0..most);
        match self.send(Outgoing::Reconnect { after_ms }.text()).await {
            Ok(()) => Ended::Closed(Closing::Restart),
            Err(end) => end,
        }
    }

    async fn send(&mut self, frame: Utf8Bytes) -> Result<(), Ended> {
        within(self.chat.patience.send, self.socket.send(frame)).await
    }

    async fn put(&mut self, frame: Utf8Bytes) -> Result<(), Ended> {
        within(self.chat.patience.send, self.socket.put(frame)).await
    }

    async fn put_message(&mut self, message: Told, batch: &mut Batch) -> Result<(), Ended> {
        batch.add(&message);
        self.put(message.frame).await?;
        self.at = message.id;
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Ended> {
        within(self.chat.patience.send, self.socket.flush()).await
    }
}

/// Gives up a client that takes nothing for too long.
async fn within(patience: Duration, sent: impl Future<Output = Result<(), Gone>>) -> Result<(), Ended> {
    Ok(timeout(patience, sent).await.map_err(|_| Ended::Stuck)??)
}

fn ticks(every: Duration) -> Interval {
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.reset();
    tick
}

/// How long until then.
fn left(at: OffsetDateTime) -> Duration {
    (at - clock::now()).try_into().unwrap_or_default()
}
