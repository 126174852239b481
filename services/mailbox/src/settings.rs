//! What can be set from outside. The table in `services/README.md` shows the same; a test compares them.

use std::{net::SocketAddr, num::NonZeroUsize};

use clap::Parser;

/// The settings of the mailbox.
#[derive(Parser, Clone, Debug)]
#[command(name = "shop-mailbox", version, about = "Keeps and shows the messages that the shop sends")]
pub struct Settings {
    /// Where messages are shown, and SMS and push messages taken.
    #[arg(long, env = "HTTP_ADDR", default_value = "0.0.0.0:8080", value_name = "ADDR")]
    pub http_addr: SocketAddr,
    /// Where mail is taken.
    #[arg(long, env = "SMTP_ADDR", default_value = "0.0.0.0:2525", value_name = "ADDR")]
    pub smtp_addr: SocketAddr,
    /// Most messages kept; the oldest go first.
    #[arg(long, env = "KEEP", default_value = "10000", value_name = "N")]
    pub keep: NonZeroUsize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_shows_the_same_table() {
        shop_kit::testing::readme_shows::<Settings>();
    }
}
