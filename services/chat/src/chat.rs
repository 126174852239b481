//! The parts of the service that connections share, and how all are told of a message.

use std::{sync::Arc, time::Duration};

use shop_kit::service::Service;

use crate::{
    domain::frame::{Message, MessageId, Outgoing},
    metrics::Counters,
    people::People,
    presence::Presence,
    quota::Quota,
    relay::Relay,
    rooms::{Membership, Rooms},
    seen::Acknowledged,
    store::{Store, Stored},
};

/// How patient the service is with a connection.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Longest without anything from the client.
    pub idle: Duration,
    /// Longest until the client's side takes a frame.
    pub send: Duration,
}

/// What all connections of an instance share.
pub struct Chat {
    /// What is kept.
    pub store: Store,
    /// The rooms with members here.
    pub rooms: Arc<Rooms>,
    /// The other instances.
    pub relay: Arc<Relay>,
    /// Who is where.
    pub presence: Presence,
    /// The users here.
    pub people: Arc<People>,
    /// How fast they may write.
    pub quota: Quota,
    /// How far they have read.
    pub acknowledged: Arc<Acknowledged>,
    /// What is counted.
    pub counters: Counters,
    /// How patient to be.
    pub patience: Patience,
    /// The running service.
    pub service: Arc<Service>,
}

impl Chat {
    /// Tells all members, here and on other instances, of a message that was stored.
    pub async fn tell(&self, membership: &Membership, message: &Message) {
        let frame = Outgoing::Message(message).text();
        membership.stored(message.id, frame.clone());
        self.relay.stored(membership.room(), message.id, &frame).await;
    }
}

impl Stored {
    /// The id of the message.
    pub fn id(&self) -> MessageId {
        match self {
            Stored::New(message) => message.id,
            Stored::Before(id) => *id,
        }
    }
}
