//! What can be set from outside, beside what all services have in common.

use clap::Parser;
use shop_kit::settings::{Common, RedisServer, endpoint};
use tonic::transport::Endpoint;

/// The settings of the ticket service.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "shop-ticket",
    version,
    about = "The shop's ticket service: sales in which thousands want the same seats at once"
)]
pub struct Settings {
    /// What all services have in common.
    #[command(flatten)]
    pub common: Common,
    /// Redis.
    #[command(flatten)]
    pub redis: RedisServer,
    /// The payment service's gRPC API.
    #[arg(long, env = "PAYMENT_URL", default_value = "http://payment.shop.svc:9090", value_parser = endpoint, value_name = "URL")]
    pub payment_url: Endpoint,
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
