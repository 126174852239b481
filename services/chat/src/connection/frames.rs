//! What a client's frames do. Each is done with before the next one is read, so a client has its answers in order.

use std::time::Duration;

use shop_kit::errors::{Kind, Problem};
use tokio::time::{Instant, timeout};

use super::Connection;
use crate::{
    domain::{
        closing::Closing,
        frame::{self, Incoming, MessageId, Outgoing, Reason, Refusal},
        pace::{Bucket, Pace},
    },
    metrics::Ended,
    store::{Draft, Stored},
};

/// Frames of any kind beside messages: far more than anybody types, and few enough that nobody is hurt.
const FRAMES: Pace = Pace { rate: 50, burst: 200 };
/// Refused frames: a client that goes on regardless is broken.
const REFUSED: Pace = Pace { rate: 1, burst: 50 };
/// Shortest time between two signs of typing that are passed on.
const TYPING: Duration = Duration::from_secs(2);
/// When to send a message again that could not be stored.
const RETRY: Duration = Duration::from_secs(1);

/// The pace of a connection's frames.
pub(super) struct Frames {
    all: Bucket,
    refused: Bucket,
    typed: Option<Instant>,
}

impl Frames {
    /// `messages` is how fast the user may write: twice that passes, and then some, before a client counts as broken.
    pub(super) fn new(messages: Pace, now: Instant) -> Self {
        let all = Pace { rate: FRAMES.rate + 2 * messages.rate, burst: FRAMES.burst + 2 * messages.burst };
        Self { all: Bucket::new(all, now), refused: Bucket::new(REFUSED, now), typed: None }
    }

    /// Whether to pass on that the user is typing.
    fn types(&mut self, now: Instant) -> bool {
        let passes = self.typed.is_none_or(|at| now.saturating_duration_since(at) >= TYPING);
        if passes {
            self.typed = Some(now);
        }
        passes
    }
}

impl Connection {
    /// Does what a frame asks for.
    pub(super) async fn frame(&mut self, text: &str) -> Result<(), Ended> {
        self.frames.all.take(Instant::now()).map_err(|_| Ended::Closed(Closing::TooManyFrames))?;
        match frame::read(text) {
            Ok(Incoming::Send { client_id, text }) => self.message(&client_id, &text).await,
            Ok(Incoming::Typing) => {
                self.typing().await;
                Ok(())
            }
            Ok(Incoming::Ack { id }) => self.acknowledge(id).await,
            Err(refusal) => self.refuse(refusal).await,
        }
    }

    /// Stores a message, says so, and tells the others: in this order.
    async fn message(&mut self, client_id: &str, text: &str) -> Result<(), Ended> {
        if let Err(wait) = self.chat.quota.take(&self.connected).await {
            let refusal = Refusal::new(Reason::RateLimited, "you write too fast").of(client_id);
            return self.refuse(Refusal { retry_after_ms: Some(millis(wait)), ..refusal }).await;
        }
        let room = self.guest.membership.room();
        let draft = Draft { room, author: &self.guest.person, client_id, text };
        let stored = match timeout(self.chat.service.request_timeout(), self.chat.store.insert(&draft)).await
        {
            Ok(Ok(stored)) => stored,
            Ok(Err(error)) => return self.refuse(not_stored(error).of(client_id)).await,
            // Perhaps it is stored: the same client_id tells, and the room finds what nobody told it of.
            Err(_) => return self.refuse(unavailable().of(client_id)).await,
        };
        self.chat.counters.accepted(&stored);
        let accepted = self.send(Outgoing::Accepted { client_id, id: stored.id() }.text()).await;
        // Whether or not the client heard of it, it is stored.
        if let Stored::New(message) = &stored {
            self.chat.tell(&self.guest.membership, message).await;
        }
        accepted
    }

    async fn typing(&mut self) {
        if self.frames.types(Instant::now()) {
            let frame = Outgoing::Typing(&self.guest.person).text();
            self.chat.relay.event(self.guest.membership.room(), &frame).await;
        }
    }

    async fn acknowledge(&mut self, id: MessageId) -> Result<(), Ended> {
        if id > self.at {
            let detail = format!("id: {} is the last message that was sent here", self.at.0);
            return self.refuse(Refusal::new(Reason::Invalid, detail)).await;
        }
        self.chat.acknowledged.note(self.guest.membership.room(), self.guest.person.user, id);
        Ok(())
    }

    async fn refuse(&mut self, refusal: Refusal) -> Result<(), Ended> {
        self.chat.counters.refused(refusal.reason);
        self.frames.refused.take(Instant::now()).map_err(|_| Ended::Closed(Closing::TooManyFrames))?;
        self.send(Outgoing::Error(&refusal).text()).await
    }
}

/// The cause is logged where the problem is made.
fn not_stored(error: sqlx::Error) -> Refusal {
    match Problem::from(error).kind() {
        Kind::Unavailable => unavailable(),
        _ => Refusal::new(Reason::Internal, "the message was not stored"),
    }
}

fn unavailable() -> Refusal {
    let refusal = Refusal::new(Reason::Unavailable, "the message was not stored: send it again");
    Refusal { retry_after_ms: Some(millis(RETRY)), ..refusal }
}

/// Rounded up: whoever comes back after that time must not be early.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_to_come_back_too_early() {
        assert_eq!(millis(Duration::from_nanos(1)), 1);
        assert_eq!(millis(Duration::from_millis(3)), 3);
        assert_eq!(millis(Duration::from_micros(3001)), 4);
    }
}
