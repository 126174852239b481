//! What can be set from outside, beside what all services have in common.

use clap::Parser;
use shop_kit::settings::{Common, RedisServer};

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
        let readme = include_str!("../../README.md");
        for row in shop_kit::settings::table::<Settings>() {
            assert!(readme.contains(&row), "services/README.md lacks the row\n{row}");
        }
    }
}
