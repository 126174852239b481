//! The way into a service: a group of consumers on some streams, in which every event is handled by one instance.
//!
//! At least once: an entry is acknowledged when it was handled, and until then it comes again, to this instance after
//! a while that grows, to another one when this one is gone. What the handler rejects, what no delivery got to the
//! end, and what is no event goes to the stream `<stream>.dead` and out of the way. Events come one at a time and, but
//! for those that come again, in their order; for more at once run several consumers of different names. How Redis
//! does its part is in `group`.

mod group;

use std::{convert::Infallible, panic::AssertUnwindSafe, time::Duration};

use ::redis::RedisResult;
use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep, timeout};
use tracing::{Instrument as _, debug, error, info_span, warn};

use self::group::{Delivery, Group, Reader};
use super::{Event, wire};
use crate::{
    errors::chain,
    metrics::{EventOutcome, Metrics},
    settings::RedisServer,
};

/// With the waits between them, enough to outlast a database that is away for three minutes.
const MOST_DELIVERIES: u64 = 20;
const STALE_AFTER: Duration = Duration::from_secs(45);
const FIRST_RETRY: Duration = Duration::from_millis(200);
/// So many events wait for another try at most; then no new ones are read, because it is not the events that fail.
const MOST_RETRIES: usize = 256;
const LONGEST_READ: Duration = Duration::from_secs(2);
const SAMPLE_EVERY: Duration = Duration::from_secs(10);
const LAST_RECONNECT: Duration = Duration::from_secs(5);

/// What is done with an event.
pub trait Handle: Send + Sync {
    /// Handles one event. It may come again, also after it was handled: see [`super::inbox`].
    fn handle(&self, event: &Event) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Why an event was not handled.
#[derive(Debug)]
pub enum Failure {
    /// It may work later.
    Retry(anyhow::Error),
    /// It never will, for this reason.
    Reject(String),
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Retry(error.into())
    }
}

/// One of the consumers of a group.
pub struct Consumer {
    group: Group,
    metrics: Metrics,
    most_deliveries: u64,
    stale_after: Duration,
    retries: Vec<Retry>,
    take_over_at: Instant,
    sample_at: Instant,
}

/// An event that this consumer failed to handle and handles again.
struct Retry {
    due: Instant,
    delivery: Delivery,
}

impl Consumer {
    /// The consumer of that name in a group on some streams. No two that run at the same time may share a name: take
    /// that of the instance. The first of a group begins with the oldest events there are. Must be called within a
    /// runtime.
    pub fn new(
        redis: &RedisServer,
        group: &str,
        consumer: &str,
        streams: &[&str],
        metrics: Metrics,
    ) -> RedisResult<Self> {
        let now = Instant::now();
        Ok(Self {
            group: Group::new(&redis.redis_url.0, group, consumer, streams)?,
            metrics,
            most_deliveries: MOST_DELIVERIES,
            stale_after: STALE_AFTER,
            retries: Vec::new(),
            take_over_at: now,
            sample_at: now,
        })
    }

    /// Sets how often an event is delivered before it is dead; 20 when not set.
    #[must_use]
    pub fn deliveries(self, most: u64) -> Self {
        Self { most_deliveries: most, ..self }
    }

    /// Sets when others take over an event that was delivered and neither handled nor given up; 45 s when not set. A
    /// handler has half of that time, and the longest wait for another try is a third of it.
    #[must_use]
    pub fn stale_after(self, time: Duration) -> Self {
        Self { stale_after: time, ..self }
    }

    /// Handles events until dropped. One that is being handled then is left to the others.
    pub async fn run<H: Handle>(mut self, handler: H) {
        let mut wait = Duration::ZERO;
        loop {
            let started = Instant::now();
            let Err(error) = self.consume(&handler).await;
            if started.elapsed() > LAST_RECONNECT {
                wait = Duration::ZERO;
            }
            wait = (wait * 2).clamp(Duration::from_millis(50), LAST_RECONNECT);
            warn!(group = self.group.name(), error = chain(&error), again_in = ?wait, "no events are heard");
            sleep(wait).await;
        }
    }

    /// Handles events until Redis fails: it is gone, or it lost the group, which is then made again.
    async fn consume<H: Handle>(&mut self, handler: &H) -> RedisResult<Infallible> {
        let mut reader = self.group.reader().await?;
        self.group.create().await?;
        loop {
            // One of each in turn, so that neither keeps the other waiting.
            self.try_again(handler).await?;
            self.take_over(handler).await?;
            self.sample().await?;
            self.hear(&mut reader, handler).await?;
        }
    }

    /// Handles new events, or waits a moment for them.
    async fn hear<H: Handle>(&mut self, reader: &mut Reader, handler: &H) -> RedisResult<()> {
        let due = self.retries.iter().map(|retry| retry.due);
        let next = due.chain([self.take_over_at, self.sample_at]).min().unwrap_or(self.sample_at);
        let wait = next.saturating_duration_since(Instant::now()).min(LONGEST_READ);
        if self.retries.len() >= MOST_RETRIES {
            sleep(wait).await;
            return Ok(());
        }
        for delivery in self.group.read(reader, wait).await? {
            self.deliver(handler, delivery).await?;
        }
        Ok(())
    }

    /// Handles the event that failed here before and has waited longest beyond its time.
    async fn try_again<H: Handle>(&mut self, handler: &H) -> RedisResult<()> {
        let now = Instant::now();
        let due = self.retries.iter().enumerate().filter(|(_, retry)| retry.due <= now);
        let Some(index) = due.min_by_key(|(_, retry)| retry.due).map(|(index, _)| index) else {
            return Ok(());
        };
        let least_idle = backoff(self.retries[index].delivery.deliveries, self.stale_after) / 2;
        let held = self.group.claim(&self.retries[index].delivery, least_idle).await?;
        let Retry { delivery, .. } = self.retries.swap_remove(index);
        if held {
            let deliveries = delivery.deliveries + 1;
            self.deliver(handler, Delivery { deliveries, ..delivery }).await
        } else {
            // It took so long here that another consumer has taken it over, or Redis has lost it.
            debug!(stream = delivery.stream, entry = delivery.entry, "an event is no longer ours");
            Ok(())
        }
    }

    /// Handles what consumers have left that are gone.
    async fn take_over<H: Handle>(&mut self, handler: &H) -> RedisResult<()> {
        if Instant::now() < self.take_over_at {
            return Ok(());
        }
        let (stale, more) = self.group.claim_stale(self.stale_after).await?;
        if !more {
            self.take_over_at = Instant::now() + self.stale_after / 4;
        }
        for delivery in stale {
            // It may be one of our own that had to wait behind others for too long.
            self.retries.retain(|retry| !retry.delivery.is(&delivery));
            // A process that dies of an event gets no further than this, on any instance.
            if delivery.deliveries > self.most_deliveries {
                self.bury(&delivery, "no delivery came to its end").await?;
            } else {
                self.deliver(handler, delivery).await?;
            }
        }
        Ok(())
    }

    async fn sample(&mut self) -> RedisResult<()> {
        if Instant::now() < self.sample_at {
            return Ok(());
        }
        for backlog in self.group.backlogs().await? {
            self.metrics.backlog(self.group.name(), &backlog.stream, backlog.undelivered, backlog.pending);
        }
        self.sample_at = Instant::now() + SAMPLE_EVERY;
        Ok(())
    }

    async fn deliver<H: Handle>(&mut self, handler: &H, delivery: Delivery) -> RedisResult<()> {
        let event = match wire::read(&delivery.stream, &delivery.fields) {
            Ok(event) => event,
            Err(malformed) => return self.bury(&delivery, &malformed.to_string()).await,
        };
        match handle(handler, &event, self.stale_after / 2).await {
            Ok(()) => {
                self.group.acknowledge(&delivery).await?;
                self.count(&delivery, EventOutcome::Handled);
            }
            Err(Failure::Reject(reason)) => self.bury(&delivery, &reason).await?,
            Err(Failure::Retry(error)) if delivery.deliveries >= self.most_deliveries => {
                self.bury(&delivery, &format!("{error:#}")).await?;
            }
            Err(Failure::Retry(error)) => {
                let wait = backoff(delivery.deliveries, self.stale_after);
                let Delivery { deliveries, stream, .. } = &delivery;
                warn!(stream, event = %event.id, deliveries, error = format!("{error:#}"), again_in = ?wait, "an event comes again");
                self.count(&delivery, EventOutcome::Retried);
                self.retries.push(Retry { due: Instant::now() + wait, delivery });
            }
        }
        Ok(())
    }

    /// Puts an entry where it is in nobody's way.
    async fn bury(&self, delivery: &Delivery, reason: &str) -> RedisResult<()> {
        let Delivery { stream, entry, deliveries, .. } = delivery;
        error!(stream, entry, deliveries, reason, "an event is dead");
        self.group.bury(delivery, reason).await?;
        self.count(delivery, EventOutcome::Dead);
        Ok(())
    }

    fn count(&self, delivery: &Delivery, outcome: EventOutcome) {
        self.metrics.consumed(self.group.name(), &delivery.stream, outcome);
    }
}

/// Handles one event within a time; a panic is a failure like any other.
async fn handle<H: Handle>(handler: &H, event: &Event, longest: Duration) -> Result<(), Failure> {
    let cx = event.cx(longest);
    let span = info_span!("event", stream = event.stream, event = %event.id, trace_id = cx.trace_id());
    let handling = AssertUnwindSafe(handler.handle(event)).catch_unwind().instrument(span);
    match timeout(longest, handling).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Failure::Retry(anyhow::anyhow!("the handler panicked"))),
        Err(_) => Err(Failure::Retry(anyhow::anyhow!("the handler did not end within {longest:?}"))),
    }
}

/// How long to wait after so many deliveries: 200 ms, twice as long each time. Never so long that others take over.
fn backoff(deliveries: u64, stale_after: Duration) -> Duration {
    let doubled = u32::try_from(deliveries.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    (FIRST_RETRY * 2_u32.pow(doubled)).min(stale_after / 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_end_before_others_take_over() {
        let ms = |deliveries| backoff(deliveries, STALE_AFTER).as_millis();
        assert_eq!([1, 2, 3, 4].map(ms), [200, 400, 800, 1600]);
        assert_eq!([8, 9, u64::MAX].map(ms), [15_000; 3]);
        let all: u128 = (1..MOST_DELIVERIES).map(ms).sum();
        assert!(all > Duration::from_mins(3).as_millis(), "{all}");
    }
}
