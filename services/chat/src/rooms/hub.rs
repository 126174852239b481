//! One room on one instance: puts what arrives in order, reads from the database what did not arrive, and hands each
//! frame to all members here, serialized once.
//!
//! Messages arrive out of order when two instances store at the same moment, and not at all when Redis loses them. An
//! early one waits a moment for those before it; then they are read. Members see every message once and in order.

use std::{collections::BTreeMap, time::Duration};

use time::OffsetDateTime;
use tokio::{
    sync::{broadcast, mpsc, watch},
    time::{Instant, sleep, timeout_at},
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{
    domain::{
        frame::{MessageId, Outgoing},
        room::Room,
    },
    store::{Store, warn_later},
};

const INBOX: usize = 1024;
const PAGE: i64 = 200;
/// How long an early message waits for those before it, and how many may.
const EARLY: Duration = Duration::from_millis(25);
const MOST_EARLY: usize = 64;
const RETRY: Duration = Duration::from_millis(250);

/// What arrives for a room.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// A message.
    Message(Told),
    /// Something that is not stored: who comes, goes and types.
    Event(Utf8Bytes),
    /// There may be messages that did not arrive.
    Look,
}

/// A message on its way to the members here.
#[derive(Clone, Debug)]
pub struct Told {
    /// Its id.
    pub id: MessageId,
    /// The frame that members get.
    pub frame: Utf8Bytes,
    /// When another instance published it; nothing for what did not come that way.
    pub published: Option<OffsetDateTime>,
}

/// What members get.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// The next message.
    Message(Told),
    /// Something that is not stored.
    Event(Utf8Bytes),
}

impl Told {
    /// A message that no other instance told of.
    pub fn here(id: MessageId, frame: Utf8Bytes) -> Self {
        Self { id, frame, published: None }
    }
}

/// A room, as its members here hold it.
pub(super) struct Hub {
    pub(super) room: Room,
    pub(super) out: broadcast::Sender<Delivery>,
    /// The last message that was handed out; none until the room's place in its history is known.
    pub(super) at: watch::Receiver<Option<MessageId>>,
    inbox: mpsc::Sender<Arrival>,
}

/// The other end of a [`Hub`].
pub(super) struct Inbox {
    room: Room,
    out: broadcast::Sender<Delivery>,
    at: watch::Sender<Option<MessageId>>,
    arrivals: mpsc::Receiver<Arrival>,
}

impl Hub {
    pub(super) fn new(room: Room, queue: usize) -> (Self, Inbox) {
        let (out, _) = broadcast::channel(queue);
        let (told, at) = watch::channel(None);
        let (inbox, arrivals) = mpsc::channel(INBOX);
        let other = Inbox { room: room.clone(), out: out.clone(), at: told, arrivals };
        (Self { room, out, at, inbox }, other)
    }

    /// Whether this message is still to be handed out.
    pub(super) fn is_before(&self, id: MessageId) -> bool {
        self.at.borrow().is_some_and(|at| at < id)
    }

    /// Hands in what arrived. With a full inbox it is lost, and a message is found again as any other loss is.
    pub(super) fn arrive(&self, arrival: Arrival) {
        self.inbox.try_send(arrival).ok();
    }
}

/// Follows a room as long as it has members here.
pub(super) async fn follow(store: Store, inbox: Inbox) {
    let Inbox { room, out, at, mut arrivals } = inbox;
    let last = loop {
        match store.last(&room).await {
            Ok(last) => break last,
            Err(error) => warn_later("reading a room's place", &error),
        }
        if arrivals.is_closed() {
            return;
        }
        sleep(RETRY).await;
    };
    at.send_replace(Some(last));
    let mut order = Order { store, room, out, at, last, early: BTreeMap::new(), waits_until: None };
    while let Some(arrival) = order.next(&mut arrivals).await {
        order.take(arrival).await;
    }
}

struct Order {
    store: Store,
    room: Room,
    out: broadcast::Sender<Delivery>,
    at: watch::Sender<Option<MessageId>>,
    last: MessageId,
    early: BTreeMap<MessageId, Told>,
    waits_until: Option<Instant>,
}

impl Order {
    /// The next arrival; [`Arrival::Look`] when an early message has waited long enough.
    async fn next(&self, arrivals: &mut mpsc::Receiver<Arrival>) -> Option<Arrival> {
        match self.waits_until {
            None => arrivals.recv().await,
            Some(until) => timeout_at(until, arrivals.recv()).await.unwrap_or(Some(Arrival::Look)),
        }
    }

    async fn take(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Event(frame) => self.hand_out(Delivery::Event(frame)),
            Arrival::Look => self.read_missing().await,
            Arrival::Message(message) if message.id <= self.last => {}
            Arrival::Message(message) => {
                // What was stored here comes back over the channel.
                self.early.entry(message.id).or_insert(message);
                if self.early.len() > MOST_EARLY {
                    self.read_missing().await;
                }
            }
        }
        self.hand_out_early();
    }

    fn hand_out_early(&mut self) {
        while let Some(message) = self.early.remove(&self.last.next()) {
            self.message(message);
        }
        self.waits_until = if self.early.is_empty() {
            None
        } else {
            Some(self.waits_until.unwrap_or_else(|| Instant::now() + EARLY))
        };
    }

    async fn read_missing(&mut self) {
        loop {
            match self.read_page().await {
                Ok(PAGE) => {}
                Ok(_) => break,
                Err(error) => {
                    warn_later("reading missed messages", &error);
                    self.waits_until = Some(Instant::now() + RETRY);
                    return;
                }
            }
        }
        // All that was early is read with the rest: ids become visible in their order.
        self.early.clear();
        self.waits_until = None;
    }

    /// Hands out the next messages in the database, and says how many there were.
    async fn read_page(&mut self) -> sqlx::Result<i64> {
        let page = self.store.after(&self.room, self.last, PAGE).await?;
        for message in &page {
            self.message(Told::here(message.id, Outgoing::Message(message).text()));
        }
        Ok(i64::try_from(page.len()).unwrap_or(PAGE))
    }

    fn message(&mut self, message: Told) {
        self.last = message.id;
        self.hand_out(Delivery::Message(message));
        self.at.send_replace(Some(self.last));
    }

    fn hand_out(&self, delivery: Delivery) {
        // With nobody listening there is nobody to tell.
        self.out.send(delivery).ok();
    }
}

#[cfg(test)]
mod tests;
