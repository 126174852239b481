//! What can be set from outside, beside what all services have in common.

use std::time::Duration;

use clap::{Parser, value_parser};
use http::Uri;
use lettre::message::Mailbox;
use shop_kit::settings::{Common, RedisServer, Secret, duration, endpoint};
use tonic::transport::Endpoint;

use crate::delivery::Patience;

/// The settings of the notification service.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "shop-notification",
    version,
    about = "The shop's notification service: tells people what happened"
)]
pub struct Settings {
    /// What all services have in common.
    #[command(flatten)]
    pub common: Common,
    /// Redis.
    #[command(flatten)]
    pub redis: RedisServer,
    /// The user service's gRPC API.
    #[arg(long, env = "USER_URL", default_value = "http://user.shop.svc:9090", value_parser = endpoint, value_name = "URL")]
    pub user_url: Endpoint,
    /// The mail server: smtp://host:port; with TLS and a login smtps, and user:password@ before the host.
    #[arg(long, env = "SMTP_URL", default_value = "smtp://mailbox.shop.svc:2525", value_parser = smtp, value_name = "URL", hide_env_values = true)]
    pub smtp_url: Secret<String>,
    /// Who mails are from.
    #[arg(long, env = "SENDER", default_value = "The shop <shop@shop.example>", value_name = "ADDRESS")]
    pub sender: Mailbox,
    /// The provider that takes text messages.
    #[arg(long, env = "SMS_URL", default_value = "http://mailbox.shop.svc/sms", value_parser = provider, value_name = "URL")]
    pub sms_url: Uri,
    /// The provider that takes push messages.
    #[arg(long, env = "PUSH_URL", default_value = "http://mailbox.shop.svc/push", value_parser = provider, value_name = "URL")]
    pub push_url: Uri,
    /// Pause before a message is tried again; each further one is twice as long, up to 5m.
    #[arg(long, env = "RETRY_AFTER", default_value = "1s", value_parser = duration, value_name = "DURATION")]
    pub retry_after: Duration,
    /// Age at which a message that could not be sent is given up.
    #[arg(long, env = "GIVE_UP_AFTER", default_value = "24h", value_parser = duration, value_name = "DURATION")]
    pub give_up_after: Duration,
    /// When others take over what an instance that is gone had begun.
    #[arg(long, env = "TAKE_OVER_AFTER", default_value = "45s", value_parser = duration, value_name = "DURATION")]
    pub take_over_after: Duration,
    /// Messages of one channel sent at once by one instance.
    #[arg(long, env = "SEND_AT_ONCE", default_value_t = 8, value_parser = value_parser!(u16).range(1..=100), value_name = "N")]
    pub send_at_once: u16,
}

impl Settings {
    /// How patiently messages are sent.
    pub fn patience(&self) -> Patience {
        Patience {
            first_pause: self.retry_after,
            give_up_after: self.give_up_after,
            at_once: self.send_at_once.into(),
            lease: self.take_over_after,
        }
    }
}

impl AsRef<Common> for Settings {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

fn smtp(text: &str) -> Result<Secret<String>, String> {
    let known =
        ["smtp", "smtps"].iter().any(|scheme| text.split_once("://").is_some_and(|(s, _)| s == *scheme));
    if known {
        Ok(Secret(text.to_owned()))
    } else {
        Err("expected smtp://host:port or smtps://user:password@host".into())
    }
}

fn provider(text: &str) -> Result<Uri, String> {
    let uri =
        text.parse::<Uri>().ok().filter(|uri| uri.scheme_str() == Some("http") && uri.authority().is_some());
    uri.ok_or_else(|| "expected http://host:port/path".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_shows_the_same_table() {
        shop_kit::testing::readme_shows::<Settings>();
    }

    #[test]
    fn servers_need_their_scheme() {
        assert!(smtp("smtp://mail:25").is_ok() && smtp("smtps://me:secret@mail").is_ok());
        assert!(provider("http://sms/send").is_ok());
        for text in ["", "mail:25", "http//x", "ftp://x", "https://x"] {
            assert!(smtp(text).is_err() && provider(text).is_err(), "{text}");
        }
        assert!(!format!("{:?}", smtp("smtps://me:secret@mail")).contains("secret"));
    }
}
