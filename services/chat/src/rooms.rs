//! The rooms that this instance has members of. A room is followed from its first member here to its last.

mod hub;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use shop_kit::service::Service;
use tokio::{
    sync::{Notify, broadcast},
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_tungstenite::tungstenite::Utf8Bytes;

pub use self::hub::{Arrival, Delivery, Told};
use self::hub::{Hub, follow};
use crate::{
    domain::{frame::MessageId, room::Room},
    store::{Store, warn_later},
};

/// Longest to wait for a room's place in its history.
const JOIN: Duration = Duration::from_secs(3);
/// How often to look whether a message went unheard.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The rooms of one instance.
pub struct Rooms {
    store: Store,
    service: Arc<Service>,
    /// Messages that may wait for the slowest member.
    queue: usize,
    hubs: Mutex<HashMap<Room, Followed>>,
    changed: Notify,
}

struct Followed {
    hub: Arc<Hub>,
    members: usize,
}

/// The room's place in its history is not known, since the database does not answer.
#[derive(Debug)]
pub struct Unknown;

impl Rooms {
    /// No rooms yet.
    pub fn new(store: Store, service: Arc<Service>, queue: usize) -> Self {
        Self { store, service, queue, hubs: Mutex::default(), changed: Notify::new() }
    }

    /// Makes somebody here a member. From then on all messages of the room come to them.
    pub async fn join(self: &Arc<Self>, room: &Room) -> Result<Membership, Unknown> {
        let hub = self.enter(room);
        let membership = Membership { rooms: self.clone(), hub };
        let mut at = membership.hub.at.clone();
        match timeout(JOIN, at.wait_for(Option::is_some)).await {
            Ok(Ok(_)) => Ok(membership),
            Ok(Err(_)) | Err(_) => Err(Unknown),
        }
    }

    fn enter(&self, room: &Room) -> Arc<Hub> {
        let mut hubs = self.lock();
        if let Some(followed) = hubs.get_mut(room) {
            followed.members += 1;
            return followed.hub.clone();
        }
        let (hub, inbox) = Hub::new(room.clone(), self.queue);
        let hub = Arc::new(hub);
        hubs.insert(room.clone(), Followed { hub: hub.clone(), members: 1 });
        self.service.background("room", follow(self.store.clone(), inbox));
        self.changed.notify_one();
        hub
    }

    fn leave(&self, room: &Room) {
        let mut hubs = self.lock();
        let Some(followed) = hubs.get_mut(room) else { return };
        followed.members -= 1;
        if followed.members == 0 {
            hubs.remove(room);
            self.changed.notify_one();
        }
    }

    /// Waits until a room is there that was not, or the other way round.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Which there are.
    pub fn all(&self) -> Vec<Room> {
        self.lock().keys().cloned().collect()
    }

    /// Tells the members of a room here, if it has any.
    pub fn arrive(&self, room: &Room, arrival: Arrival) {
        let hub = self.lock().get(room).map(|followed| followed.hub.clone());
        if let Some(hub) = hub {
            hub.arrive(arrival);
        }
    }

    /// Looks now and then whether a message went unheard, until dropped: Redis may be gone, and what it lost nobody
    /// else tells of.
    pub async fn watch(&self) {
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let rooms = self.all();
            if rooms.is_empty() {
                continue;
            }
            match self.store.last_of(&rooms).await {
                Ok(all) => all.iter().for_each(|(room, last)| self.compare(room, *last)),
                Err(error) => warn_later("looking for unheard messages", &error),
            }
        }
    }

    fn compare(&self, room: &str, last: MessageId) {
        let Some(room) = Room::parse(room) else { return };
        let behind = self.lock().get(&room).is_some_and(|followed| followed.hub.is_before(last));
        if behind {
            self.arrive(&room, Arrival::Look);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Room, Followed>> {
        self.hubs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody here is a member of a room, until this is dropped.
pub struct Membership {
    rooms: Arc<Rooms>,
    hub: Arc<Hub>,
}

impl Membership {
    /// The room.
    pub fn room(&self) -> &Room {
        &self.hub.room
    }

    /// All that happens in the room from now on, messages in the order of their ids.
    pub fn listen(&self) -> broadcast::Receiver<Delivery> {
        self.hub.out.subscribe()
    }

    /// Tells the members here of a message that was stored.
    pub fn stored(&self, id: MessageId, frame: Utf8Bytes) {
        self.hub.arrive(Arrival::Message(Told::here(id, frame)));
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.rooms.leave(&self.hub.room);
    }
}
