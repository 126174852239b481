//! What can be set from outside, beside what all services have in common.

use clap::Parser;
use shop_kit::settings::{Common, RedisServer, endpoint};
use tonic::transport::Endpoint;

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
