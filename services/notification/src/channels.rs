//! The ways out: mail over SMTP, text and push messages through providers over HTTP.
//!
//! A channel sends a message once and says how it went; trying again is the business of `delivery`.

pub mod email;
pub mod provider;

use futures_util::future::BoxFuture;

use crate::domain::message::{Means, Message};

/// A way out.
pub trait Channel: Send + Sync {
    /// Hands a message over. Whoever takes it must know it again by [`Message::id`], since it may come twice: after a
    /// crash between handing over and remembering it.
    fn send<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Result<(), SendError>>;
}

/// A way out, and what it is good for.
pub type Way = (Means, Box<dyn Channel>);

/// Why a message was not handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It may work later.
    #[error("{0}")]
    Temporary(String),
    /// It never will.
    #[error("{0}")]
    Permanent(String),
}
