//! What can be set from outside, beside what all services have in common.

use std::time::Duration;

use clap::{Parser, value_parser};
use shop_kit::settings::{Common, RedisServer, duration};

use crate::{chat::Patience, domain::pace::Pace};

/// The settings of the chat service.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "shop-chat",
    version,
    about = "The shop's chat service: rooms over `WebSockets` that span its instances"
)]
pub struct Settings {
    /// What all services have in common.
    #[command(flatten)]
    pub common: Common,
    /// Redis.
    #[command(flatten)]
    pub redis: RedisServer,
    /// Messages a user may write per second, on all instances together.
    #[arg(long, env = "MESSAGES_PER_SECOND", default_value_t = 5, value_parser = value_parser!(u32).range(1..=100_000), value_name = "N")]
    pub messages_per_second: u32,
    /// Messages a user may write at once after a rest, on all instances together.
    #[arg(long, env = "MESSAGES_AT_ONCE", default_value_t = 20, value_parser = value_parser!(u32).range(1..=100_000), value_name = "N")]
    pub messages_at_once: u32,
    /// Connections a user may have to one instance.
    #[arg(long, env = "CONNECTIONS_PER_USER", default_value_t = 8, value_parser = value_parser!(u16).range(1..), value_name = "N")]
    pub connections_per_user: u16,
    /// Messages of a room that may wait for its slowest member, who is dropped after that.
    #[arg(long, env = "QUEUE", default_value_t = 256, value_parser = value_parser!(u16).range(1..), value_name = "N")]
    pub queue: u16,
    /// Longest without anything from a client, which is asked for a pong three times as often.
    #[arg(long, env = "IDLE_TIMEOUT", default_value = "60s", value_parser = duration, value_name = "DURATION")]
    pub idle_timeout: Duration,
    /// Longest until a client takes a frame.
    #[arg(long, env = "SEND_TIMEOUT", default_value = "10s", value_parser = duration, value_name = "DURATION")]
    pub send_timeout: Duration,
    /// How long users of an instance that died are still shown as present.
    #[arg(long, env = "PRESENCE_TIMEOUT", default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub presence_timeout: Duration,
}

impl Settings {
    /// How fast a user may write.
    pub fn pace(&self) -> Pace {
        Pace { rate: self.messages_per_second, burst: self.messages_at_once }
    }

    /// How patient to be with a connection.
    pub fn patience(&self) -> Patience {
        Patience { idle: self.idle_timeout, send: self.send_timeout }
    }
}

impl AsRef<Common> for Settings {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_shows_the_same_table() {
        shop_kit::testing::readme_shows::<Settings>();
    }
}
