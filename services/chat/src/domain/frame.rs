//! What goes over a connection, as JSON: frames of the client, checked before anything is done about them, and frames of
//! the service, each serialized once and shared by all who receive it.

use serde::{Deserialize, Serialize, Serializer};
use time::OffsetDateTime;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use uuid::Uuid;

/// Largest text of a message, in bytes.
pub const LARGEST_TEXT: usize = 16 * 1024;
/// Largest frame: the largest text with every byte escaped (`\u0001`), and what stands around it.
pub const LARGEST_FRAME: usize = 100 * 1024;
const LONGEST_CLIENT_ID: usize = 64;

/// The id of a message: counted from 1 in its room, in the order in which messages were stored. 0 stands before all.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type,
)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct MessageId(pub i64);

impl MessageId {
    /// The id after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A stored message.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct Message {
    /// Its id in its room.
    pub id: MessageId,
    /// Who wrote it.
    #[serde(rename = "user")]
    #[sqlx(rename = "user_id")]
    pub user: Uuid,
    /// What they were called then.
    #[serde(rename = "name")]
    #[sqlx(rename = "user_name")]
    pub name: String,
    /// What their client called it.
    pub client_id: String,
    /// What they wrote.
    pub text: String,
    /// When it was stored.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
}

/// Somebody in a room.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Person {
    /// Their id.
    pub user: Uuid,
    /// What they are called.
    pub name: String,
}

/// A frame of the client.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Incoming {
    /// A message to store and to pass on.
    Send {
        /// What the client calls it; the same one again is the same message.
        client_id: String,
        /// The message.
        text: String,
    },
    /// The user is typing.
    Typing,
    /// The user has seen everything up to this message.
    Ack {
        /// Its id.
        id: MessageId,
    },
}

/// A frame of the service.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Outgoing<'a> {
    /// The first frame: where the client is and who is there.
    Welcome {
        /// The room.
        room: &'a str,
        /// The user.
        #[serde(flatten)]
        person: &'a Person,
        /// The newest message of the room.
        last_id: MessageId,
        /// The message after which messages follow.
        after: MessageId,
        /// What the user acknowledged last.
        acked: Option<MessageId>,
        /// Who is there, up to 100 of them; none if that cannot be known now.
        present: Option<&'a [Person]>,
        /// How many there are.
        present_count: Option<u64>,
    },
    /// A message.
    Message(&'a Message),
    /// All that was missed has been sent; what follows happens now.
    Live {
        /// The last message that was sent.
        id: MessageId,
    },
    /// A message of this client is stored.
    Accepted {
        /// What the client calls it.
        client_id: &'a str,
        /// Its id in the room.
        id: MessageId,
    },
    /// A user came into the room.
    Joined(&'a Person),
    /// A user left the room.
    Left(&'a Person),
    /// A user is typing.
    Typing(&'a Person),
    /// A frame was refused and nothing was done about it.
    Error(&'a Refusal),
    /// The instance stops: the client is to connect again after that time.
    Reconnect {
        /// Milliseconds, different for each client.
        after_ms: u64,
    },
}

impl Outgoing<'_> {
    /// The frame as it goes out.
    pub fn text(&self) -> Utf8Bytes {
        serde_json::to_string(self).expect("strings, numbers and times always serialize").into()
    }
}

/// Why a frame was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The reason for programs.
    pub reason: Reason,
    /// The reason for people.
    pub detail: String,
    /// The message it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// When to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

/// Why a frame was refused, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is no JSON, or not of a known form.
    Malformed,
    /// A field of it cannot be accepted.
    Invalid,
    /// The text is larger than 16 KiB.
    TooLong,
    /// The user writes too fast.
    RateLimited,
    /// Messages cannot be stored now.
    Unavailable,
    /// The service is at fault.
    Internal,
}

impl Reason {
    /// The reason as frames and metrics spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Invalid => "invalid",
            Self::TooLong => "too-long",
            Self::RateLimited => "rate-limited",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl Refusal {
    /// A refusal of a frame.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), client_id: None, retry_after_ms: None }
    }

    /// It is about this message.
    #[must_use]
    pub fn of(self, client_id: &str) -> Self {
        Self { client_id: Some(client_id.to_owned()), ..self }
    }
}

/// Reads a frame of the client.
pub fn read(text: &str) -> Result<Incoming, Refusal> {
    let malformed = |error: serde_json::Error| Refusal::new(Reason::Malformed, error.to_string());
    let frame: Incoming = serde_json::from_str(text).map_err(malformed)?;
    check(&frame)?;
    Ok(frame)
}

fn check(frame: &Incoming) -> Result<(), Refusal> {
    match frame {
        Incoming::Send { client_id, text } => {
            let plain = client_id.bytes().all(|b| b.is_ascii_graphic());
            if client_id.is_empty() || client_id.len() > LONGEST_CLIENT_ID || !plain {
                return Err(invalid("client_id: 1 to 64 visible ASCII characters"));
            }
            check_text(text).map_err(|refusal| refusal.of(client_id))
        }
        Incoming::Ack { id } if id.0 < 1 => Err(invalid("id: is at least 1")),
        Incoming::Ack { .. } | Incoming::Typing => Ok(()),
    }
}

fn check_text(text: &str) -> Result<(), Refusal> {
    if text.trim().is_empty() {
        return Err(invalid("text: there is none"));
    }
    if text.contains('\0') {
        return Err(invalid("text: the character NUL cannot be stored"));
    }
    if text.len() > LARGEST_TEXT {
        let detail = format!("text: {} bytes; at most {LARGEST_TEXT}", text.len());
        return Err(Refusal::new(Reason::TooLong, detail));
    }
    Ok(())
}

fn invalid(detail: &str) -> Refusal {
    Refusal::new(Reason::Invalid, detail)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn frames_are_checked_before_anything_is_done() {
        use Reason::{Invalid, Malformed, TooLong};

        let largest = "x".repeat(LARGEST_TEXT);
        let larger = "x".repeat(LARGEST_TEXT + 1);
        let long_id = "x".repeat(65);
        for (frame, expect) in [
            (json!({"type": "send", "client_id": "a", "text": "hello"}), None),
            (json!({"type": "send", "client_id": "a", "text": "'; DROP TABLE messages; --"}), None),
            (json!({"type": "send", "client_id": "a", "text": largest}), None),
            (json!({"type": "typing"}), None),
            (json!({"type": "ack", "id": 1}), None),
            (json!({"type": "send", "client_id": "a", "text": larger}), Some(TooLong)),
            (json!({"type": "send", "client_id": "a", "text": " \n"}), Some(Invalid)),
            (json!({"type": "send", "client_id": "a", "text": "a\0b"}), Some(Invalid)),
            (json!({"type": "send", "client_id": "", "text": "a"}), Some(Invalid)),
            (json!({"type": "send", "client_id": "a b", "text": "a"}), Some(Invalid)),
            (json!({"type": "send", "client_id": long_id, "text": "a"}), Some(Invalid)),
            (json!({"type": "ack", "id": 0}), Some(Invalid)),
            (json!({"type": "ack", "id": -7}), Some(Invalid)),
            (json!({"type": "ack", "id": 1e30}), Some(Malformed)),
            (json!({"type": "ack", "id": "1"}), Some(Malformed)),
            (json!({"type": "send", "client_id": "a", "text": "a", "user": "root"}), Some(Malformed)),
            (json!({"type": "send", "text": "a"}), Some(Malformed)),
            (json!({"type": "shout"}), Some(Malformed)),
            (json!([1]), Some(Malformed)),
            (json!(null), Some(Malformed)),
        ] {
            let got = read(&frame.to_string()).err().map(|refusal| refusal.reason);
            assert_eq!(got, expect, "{}", frame.to_string().chars().take(80).collect::<String>());
        }
        for text in ["", "{", "{}", "hello", &"[".repeat(10_000)] {
            assert_eq!(read(text).unwrap_err().reason, Malformed);
        }
    }

    #[test]
    fn a_message_is_told_with_its_type_and_nothing_of_the_database() {
        let message = Message {
            id: MessageId(7),
            user: Uuid::nil(),
            name: "Ada".into(),
            client_id: "c1".into(),
            text: "<b>\u{2028}".into(),
            time: OffsetDateTime::UNIX_EPOCH,
        };
        let expect = concat!(
            r#"{"type":"message","id":7,"user":"00000000-0000-0000-0000-000000000000","name":"Ada","#,
            r#""client_id":"c1","text":"<b>"#,
            "\u{2028}",
            r#"","time":"1970-01-01T00:00:00Z"}"#
        );
        assert_eq!(Outgoing::Message(&message).text().as_str(), expect);
    }

    proptest! {
        #[test]
        fn no_text_is_refused_for_the_room_that_its_escapes_take(text in "[\\x01-\\x1f\"\\\\]{1,2700}") {
            let text = text.repeat(6);
            prop_assume!(!text.trim().is_empty());
            let frame = json!({"type": "send", "client_id": "x".repeat(64), "text": text}).to_string();
            prop_assert!(frame.len() <= LARGEST_FRAME, "{}", frame.len());
            prop_assert!(read(&frame).is_ok());
        }
    }
}
