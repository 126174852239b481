//! What can be set from outside, beside what all services have in common.

use std::time::Duration;

use clap::{ArgAction, Parser};
use shop_kit::settings::{Common, RedisServer, duration_or_none};

/// The settings of the product service.
#[derive(Parser, Clone, Debug)]
#[command(name = "shop-product", version, about = "The shop's product service")]
pub struct Settings {
    /// What all services have in common.
    #[command(flatten)]
    pub common: Common,
    /// Redis.
    #[command(flatten)]
    pub redis: RedisServer,
    /// Fill an empty catalogue with a few products at start.
    #[arg(long, env = "SEED", default_value_t = false, action = ArgAction::Set, value_name = "BOOL")]
    pub seed: bool,
    /// How long a product may be kept in the process, told of changes by Pub/Sub; 0s: every read sees the last change.
    #[arg(long, env = "NEAR_CACHE", default_value = "0s", value_parser = duration_or_none, value_name = "DURATION")]
    pub near_cache: Duration,
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
