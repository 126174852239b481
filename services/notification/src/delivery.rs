//! Sends what is written down, until it is sent or given up. One loop per channel, so that none waits for another.
//!
//! A message is claimed before it is sent: for the time of the lease no other instance tries. It goes from pending to
//! sent, or to failed when the other side refuses it for good or nothing helped for too long; the stream
//! `notification.failed` tells of those. A crash after sending and before remembering it is the one moment from which a
//! message is sent again; it then carries the same id, by which the other side knows it.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use serde_json::json;
use shop_kit::{
    clock,
    errors::chain,
    events::{Event, Publisher},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::{
    channels::{Channel, SendError},
    domain::message::Means,
    store::{Claimed, Store},
};

/// Another instance may have died with messages, and tries again become due, so look now and then.
const POLL_EVERY: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_mins(5);
/// Between attempts at the database while it is away.
const DATABASE_AGAIN: Duration = Duration::from_secs(1);
const LONGEST_SEND: Duration = Duration::from_secs(10);

/// Says to the loops of all channels that there is something to send.
#[derive(Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// Wakes them.
    pub fn all(&self) {
        self.0.notify_waiters();
    }
}

/// How patiently is tried.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Pause after the first failed try; each one after it is twice as long.
    pub first_pause: Duration,
    /// Age at which a message is given up.
    pub give_up_after: Duration,
    /// Messages of one channel sent at once.
    pub at_once: usize,
    /// How long a claimed message is nobody else's. Sending it, and remembering that it was sent, end before.
    pub lease: Duration,
}

impl Patience {
    /// Longest time for sending one message: it leaves enough of the lease for remembering.
    pub fn longest_send(&self) -> Duration {
        (self.lease / 3).min(LONGEST_SEND)
    }
}

/// The loop of one channel.
pub struct Delivery {
    /// Which.
    pub means: Means,
    /// The way out.
    pub channel: Box<dyn Channel>,
    /// What is to be sent.
    pub store: Store,
    /// How patiently.
    pub patience: Patience,
    /// Who tells of messages given up.
    pub publisher: Publisher,
    /// Says that there is something to send.
    pub wake: Wake,
}

impl Delivery {
    /// Sends until dropped.
    pub async fn run(self) {
        loop {
            // Asked for before looking, so that what is written down between the two is not slept over.
            let woken = self.wake.0.notified();
            match self.send_batch().await {
                Ok(0) => {
                    timeout(POLL_EVERY, woken).await.ok();
                }
                Ok(_) => {}
                Err(error) => {
                    warn!(channel = self.means.as_str(), error = chain(&error), "messages wait");
                    sleep(DATABASE_AGAIN).await;
                }
            }
        }
    }

    /// Sends what is due, as much as may be sent at once, and returns how many messages that were.
    async fn send_batch(&self) -> sqlx::Result<usize> {
        let Patience { at_once, lease, .. } = self.patience;
        let claimed = self.store.claim(self.means, at_once, clock::now(), lease).await?;
        let ends = Instant::now() + lease;
        join_all(claimed.iter().map(|claimed| self.send(claimed, ends))).await;
        Ok(claimed.len())
    }

    async fn send(&self, claimed: &Claimed, ends: Instant) {
        let id = claimed.message.id();
        let age = (clock::now() - claimed.created).unsigned_abs();
        match self.channel.send(&claimed.message).await {
            Ok(()) => {
                info!(id, user = %claimed.user_id, attempt = claimed.attempt, "sent");
                remember(&id, ends, || self.store.sent(claimed, clock::now())).await;
            }
            Err(SendError::Temporary(reason)) if age < self.patience.give_up_after => {
                let pause = pause(self.patience.first_pause, claimed.attempt);
                warn!(id, reason, attempt = claimed.attempt, again_in = ?pause, "not sent");
                remember(&id, ends, || self.store.later(claimed, clock::now() + pause, &reason)).await;
            }
            Err(SendError::Temporary(reason) | SendError::Permanent(reason)) => {
                error!(id, reason, attempt = claimed.attempt, "given up");
                let told = given_up(claimed, &reason);
                remember(&id, ends, || self.store.failed(claimed, &reason, &told)).await;
                self.publisher.wake();
            }
        }
    }
}

/// Writes down how a try went. While the database is away this is tried until the lease ends, since what is forgotten
/// is sent again.
async fn remember<F: Future<Output = sqlx::Result<()>>>(
    id: &str,
    ends: Instant,
    mut write: impl FnMut() -> F,
) {
    while let Err(error) = write().await {
        warn!(id, error = chain(&error), "cannot remember how sending went");
        if Instant::now() + DATABASE_AGAIN >= ends {
            return;
        }
        sleep(DATABASE_AGAIN).await;
    }
}

/// The pause after that try: twice as long each time, up to five minutes.
fn pause(first: Duration, attempt: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
    first.saturating_mul(doubled).min(LAST_PAUSE)
}

fn given_up(claimed: &Claimed, reason: &str) -> Event {
    let Claimed { message, event, user_id, attempt, .. } = claimed;
    Event {
        id: Uuid::now_v7(),
        stream: "notification.failed".into(),
        data: json!({
            "event_id": message.event_id, "event": event, "channel": message.means, "user_id": user_id,
            "attempts": attempt, "reason": reason,
        }),
        traceparent: None,
        time: clock::now(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_minutes() {
        let first = Duration::from_secs(1);
        assert_eq!([1, 2, 3, 9, 10, u32::MAX].map(|n| pause(first, n).as_secs()), [1, 2, 4, 256, 300, 300]);
    }

    #[test]
    fn sending_leaves_most_of_the_lease_for_remembering() {
        for (lease, expect) in [(60, 10), (30, 10), (3, 1)] {
            let lease = Duration::from_secs(lease);
            let patience = Patience { first_pause: lease, give_up_after: lease, at_once: 1, lease };
            assert_eq!(patience.longest_send().as_secs(), expect, "{lease:?}");
        }
    }
}
