//! The messages that came, the newest last. Knows no protocol.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// By SMTP.
    Email,
    /// To the provider of text messages.
    Sms,
    /// To the provider of push messages.
    Push,
}

/// A message, as often as it came.
#[derive(Clone, Debug, Serialize)]
pub struct Message {
    /// How it came.
    pub channel: Channel,
    /// What tells it from others: the Message-ID of a mail, the idempotency key of the others. One that comes without is
    /// given one.
    pub id: String,
    /// Who sent it.
    pub from: String,
    /// Whom it is for.
    pub to: Vec<String>,
    /// What it is about; empty for text messages.
    pub subject: String,
    /// What it says.
    pub text: String,
    /// When it first came.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// How often it came.
    pub deliveries: u32,
}

/// What is looked for.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Filter {
    /// Came this way.
    pub channel: Option<Channel>,
    /// Is for this address.
    pub to: Option<String>,
}

/// The messages that came.
#[derive(Debug)]
pub struct Messages {
    most: usize,
    kept: Mutex<Kept>,
}

type Key = (Channel, String);

#[derive(Debug, Default)]
struct Kept {
    order: VecDeque<Key>,
    messages: HashMap<Key, Message>,
    /// Messages that came without an id.
    unnamed: u64,
}

impl Messages {
    /// No messages, and room for so many.
    pub fn new(most: NonZeroUsize) -> Self {
        Self { most: most.get(), kept: Mutex::default() }
    }

    /// Keeps a message, unless it is there; returns how often it has come. The same message to somebody else is theirs
    /// too.
    pub fn add(&self, mut message: Message) -> u32 {
        let mut kept = self.kept();
        if message.id.is_empty() {
            // As mail servers do (RFC 6409, 8.3): without it all such mails would be one.
            kept.unnamed += 1;
            message.id = format!("{}@mailbox.shop.example", kept.unnamed);
        }
        let key = (message.channel, message.id.clone());
        if let Some(known) = kept.messages.get_mut(&key) {
            known.deliveries = known.deliveries.saturating_add(1);
            message.to.retain(|to| !known.to.contains(to));
            known.to.append(&mut message.to);
            return known.deliveries;
        }
        if kept.order.len() == self.most
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.messages.remove(&oldest);
        }
        kept.order.push_back(key.clone());
        kept.messages.insert(key, message);
        1
    }

    /// Those that are looked for, in the order in which they first came.
    pub fn find(&self, filter: &Filter) -> Vec<Message> {
        let wanted = |message: &&Message| {
            filter.channel.is_none_or(|channel| channel == message.channel)
                && filter.to.as_ref().is_none_or(|to| message.to.contains(to))
        };
        let kept = self.kept();
        kept.order.iter().filter_map(|key| kept.messages.get(key)).filter(wanted).cloned().collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether there is nobody of that address here.
pub fn bounces(address: &str) -> bool {
    address.starts_with("bounce")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str) -> Message {
        Message {
            channel: Channel::Email,
            id: id.into(),
            from: "shop@shop.example".into(),
            to: vec![format!("{id}@example.com")],
            subject: String::new(),
            text: String::new(),
            time: OffsetDateTime::UNIX_EPOCH,
            deliveries: 1,
        }
    }

    fn ids(messages: &Messages, filter: &Filter) -> Vec<String> {
        messages.find(filter).into_iter().map(|message| message.id).collect()
    }

    #[test]
    fn a_message_that_comes_again_is_counted_and_kept_once() {
        let messages = Messages::new(NonZeroUsize::new(10).unwrap());
        assert_eq!(
            [messages.add(message("a")), messages.add(message("b")), messages.add(message("a"))],
            [1, 1, 2]
        );
        assert_eq!(ids(&messages, &Filter::default()), ["a", "b"]);
        let to = Filter { to: Some("b@example.com".into()), ..Filter::default() };
        assert_eq!(ids(&messages, &to), ["b"]);
        assert!(ids(&messages, &Filter { channel: Some(Channel::Sms), ..Filter::default() }).is_empty());
    }

    #[test]
    fn the_oldest_make_room() {
        let messages = Messages::new(NonZeroUsize::new(2).unwrap());
        for id in ["a", "b", "c"] {
            messages.add(message(id));
        }
        assert_eq!(ids(&messages, &Filter::default()), ["b", "c"]);
        assert_eq!(messages.add(message("a")), 1, "what is forgotten is new");
    }
}
