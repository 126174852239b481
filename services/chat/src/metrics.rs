//! What only the chat service can count, beside what the kit counts for all. `services/chat/README.md` shows the same
//! table; a test compares them. Labels come from enums, never from what somebody wrote.

use shop_kit::metrics::{Histogram, IntCounter, IntCounterVec, IntGauge, Metrics};
use time::OffsetDateTime;

use crate::{
    domain::{closing::Closing, frame::Reason},
    rooms::Told,
    store::Stored,
};

/// The counters of one instance.
#[derive(Clone)]
pub struct Counters {
    connections: IntGauge,
    ended: IntCounterVec,
    messages: IntCounterVec,
    refused: IntCounterVec,
    delivered: IntCounterVec,
    fan_out: Histogram,
    paced_alone: IntCounter,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
pub enum Ended {
    /// The client closed it, or it broke.
    Gone,
    /// The client took nothing any more, not even a close frame.
    Stuck,
    /// The service closed it.
    Closed(Closing),
}

/// How a message came to a member.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// As it happened.
    Live,
    /// Read from the database, for who had missed it.
    Replayed,
}

/// One open connection, until this is dropped.
pub struct Open(IntGauge);

/// Messages that go out to one member together.
#[derive(Default)]
pub struct Batch {
    messages: u64,
    published: Vec<OffsetDateTime>,
}

impl Counters {
    /// Counters that start at 0, shown with those of the service.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            connections: metrics.gauge("shop_chat_connections", "WebSockets that are open."),
            ended: metrics.counter(
                "shop_chat_connections_ended_total",
                "WebSockets that have ended.",
                &["reason"],
            ),
            messages: metrics.counter(
                "shop_chat_messages_total",
                "Messages that were accepted.",
                &["outcome"],
            ),
            refused: metrics.counter(
                "shop_chat_frames_refused_total",
                "Frames of clients that were refused.",
                &["reason"],
            ),
            delivered: metrics.counter(
                "shop_chat_deliveries_total",
                "Messages written to members.",
                &["way"],
            ),
            fan_out: metrics.histogram(
                "shop_chat_fan_out_seconds",
                "From the publication of a message by another instance to its writing to a member here.",
            ),
            paced_alone: metrics.plain_counter(
                "shop_chat_paced_alone_total",
                "Messages held to the pace of this instance alone, since Redis did not answer.",
            ),
        }
    }

    /// Redis did not say whether a user may write.
    pub fn paced_alone(&self) {
        self.paced_alone.inc();
    }

    /// A connection opens.
    pub fn open(&self) -> Open {
        self.connections.inc();
        Open(self.connections.clone())
    }

    /// A connection has ended.
    pub fn ended(&self, how: Ended) {
        self.ended.with_label_values(&[how.label()]).inc();
    }

    /// A message is stored.
    pub fn accepted(&self, stored: &Stored) {
        let outcome = match stored {
            Stored::New(_) => "stored",
            Stored::Before(_) => "repeated",
        };
        self.messages.with_label_values(&[outcome]).inc();
    }

    /// A frame was refused.
    pub fn refused(&self, reason: Reason) {
        self.refused.with_label_values(&[reason.as_str()]).inc();
    }

    /// A batch was written to a member.
    pub fn delivered(&self, way: Way, batch: &Batch, now: OffsetDateTime) {
        if batch.messages > 0 {
            self.delivered.with_label_values(&[way.label()]).inc_by(batch.messages);
        }
        for published in &batch.published {
            // Clocks of two machines may differ by more than a message takes.
            self.fan_out.observe((now - *published).as_seconds_f64().max(0.0));
        }
    }
}

impl Batch {
    /// Adds a message.
    pub fn add(&mut self, message: &Told) {
        self.messages += 1;
        self.published.extend(message.published);
    }
}

impl Ended {
    fn label(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Stuck => "stuck",
            Self::Closed(closing) => closing.label(),
        }
    }
}

impl Way {
    fn label(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Replayed => "replayed",
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_shows_the_same_table() {
        let metrics = Metrics::new();
        let counters = Counters::new(&metrics);
        counters.ended(Ended::Stuck);
        counters.accepted(&Stored::Before(crate::domain::frame::MessageId(1)));
        counters.refused(Reason::TooLong);
        let batch = Batch { messages: 1, published: Vec::new() };
        counters.delivered(Way::Live, &batch, OffsetDateTime::UNIX_EPOCH);
        let text = metrics.text();
        let shown = text.lines().filter_map(|line| line.strip_prefix("# TYPE shop_chat_")?.split(' ').next());
        let readme = include_str!("../README.md");
        let documented =
            readme.lines().filter_map(|line| line.strip_prefix("| `shop_chat_")?.split('`').next());
        let (mut shown, mut documented): (Vec<_>, Vec<_>) = (shown.collect(), documented.collect());
        shown.sort_unstable();
        documented.sort_unstable();
        assert_eq!(shown, documented);
    }
}
