//! Mail over SMTP, a connection for each: one that broke off in the middle of a mail must not carry the next.
//!
//! The Message-ID is that of the message, so a mail that had to be sent twice is known again by servers and readers.

use std::time::Duration;

use futures_util::{FutureExt as _, future::BoxFuture};
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport as _, Message as Mail, Tokio1Executor,
    message::{Mailbox, header::ContentType},
    transport::smtp,
};
use shop_kit::errors::chain;

use super::{Channel, SendError};
use crate::domain::message::Message;

/// Mail over SMTP.
pub struct Email {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    sender: Mailbox,
}

impl Email {
    /// Mail from that sender through the server at `smtp://host:port`, or with TLS `smtps://user:password@host`.
    pub fn new(server: &str, sender: Mailbox, patience: Duration) -> Result<Self, smtp::Error> {
        let transport =
            AsyncSmtpTransport::<Tokio1Executor>::from_url(server)?.timeout(Some(patience)).build();
        Ok(Self { transport, sender })
    }

    fn mail(&self, message: &Message) -> Result<Mail, SendError> {
        let permanent = |error: &dyn std::error::Error| SendError::Permanent(chain(error));
        let to: Address = message.recipient.parse().map_err(|error| permanent(&error))?;
        let id = format!("<{}@{}>", message.id(), self.sender.email.domain());
        Mail::builder()
            .from(self.sender.clone())
            .to(to.into())
            .message_id(Some(id))
            .subject(message.subject.clone())
            .header(ContentType::TEXT_PLAIN)
            .body(message.text.clone())
            .map_err(|error| permanent(&error))
    }
}

impl Channel for Email {
    fn send<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Result<(), SendError>> {
        async move {
            let mail = self.mail(message)?;
            self.transport.send(mail).await.map(|_| ()).map_err(|error| judge(&error))
        }
        .boxed()
    }
}

/// What the server says is permanent (5yz) is; all else may pass.
fn judge(error: &smtp::Error) -> SendError {
    let text = chain(error);
    if error.is_permanent() { SendError::Permanent(text) } else { SendError::Temporary(text) }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::message::Means;

    fn formatted(recipient: &str, subject: &str) -> Result<String, SendError> {
        let sender = "Shop <shop@shop.example>".parse().unwrap();
        let email = Email::new("smtp://localhost:25", sender, Duration::from_secs(1)).unwrap();
        let mail = email.mail(&Message {
            event_id: Uuid::nil(),
            means: Means::Email,
            recipient: recipient.into(),
            subject: subject.into(),
            text: "Hello\n.\n".into(),
        })?;
        Ok(String::from_utf8(mail.formatted()).unwrap())
    }

    #[test]
    fn the_message_id_is_the_same_each_time() {
        let id = "Message-ID: <00000000-0000-0000-0000-000000000000.email@shop.example>\r\n";
        assert!(formatted("ann@example.com", "Hi").unwrap().contains(id));
        assert!(formatted("ann@example.com", "Hi").unwrap().contains(id));
    }

    #[test]
    fn a_subject_ends_no_header_and_a_bad_address_is_permanent() {
        let mail = formatted("ann@example.com", "Hi\r\nBcc: all@example.com").unwrap();
        assert!(!mail.lines().any(|line| line.starts_with("Bcc")), "{mail}");
        for address in ["", "ann", "ann@example.com\r\nRCPT TO:<bob@example.com>", "a b@c"] {
            assert!(matches!(formatted(address, "Hi"), Err(SendError::Permanent(_))), "{address}");
        }
    }
}
