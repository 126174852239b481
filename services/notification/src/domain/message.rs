//! What a user is told, and by which channel.

use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

/// A way to reach a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Means {
    /// A mail.
    Email,
    /// A text message to a phone.
    Sms,
    /// A message to an app on a device.
    Push,
}

impl Means {
    /// All there are.
    pub const ALL: [Means; 3] = [Means::Email, Means::Sms, Means::Push];

    /// As tables and ids spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Means::Email => "email",
            Means::Sms => "sms",
            Means::Push => "push",
        }
    }
}

/// How far a notification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not sent yet.
    Pending,
    /// Sent.
    Sent,
    /// Given up.
    Failed,
}

/// A message to one user by one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The event it tells of.
    pub event_id: Uuid,
    /// How it is sent.
    pub means: Means,
    /// Address, phone number or device.
    pub recipient: String,
    /// What it is about, in one line.
    pub subject: String,
    /// What it says.
    pub text: String,
}

impl Message {
    /// What tells this message from all others, however often and by whichever instance it is sent.
    pub fn id(&self) -> String {
        format!("{}.{}", self.event_id, self.means.as_str())
    }
}

/// A notification as its user sees it.
#[derive(Clone, Debug, Serialize)]
pub struct Notification {
    /// The event it tells of.
    pub event_id: Uuid,
    /// Its type: `order.paid`.
    pub event: String,
    /// How it is sent.
    pub channel: Means,
    /// To where.
    pub recipient: String,
    /// What it is about.
    pub subject: String,
    /// What it says.
    pub text: String,
    /// How far it is.
    pub state: State,
    /// How often sending was tried.
    pub attempts: u32,
    /// When the event was noted.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// When it was sent.
    #[serde(with = "time::serde::rfc3339::option")]
    pub sent: Option<OffsetDateTime>,
}
