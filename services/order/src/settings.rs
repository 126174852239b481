//! What can be set from outside, beside what all services have in common.

use std::time::Duration;

use clap::Parser;
use shop_kit::settings::{Common, RedisServer, duration, endpoint};
use tonic::transport::Endpoint;

/// The settings of the order service.
#[derive(Parser, Clone, Debug)]
#[command(name = "shop-order", version, about = "The shop's order service")]
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
    /// The product service's gRPC API.
    #[arg(long, env = "PRODUCT_URL", default_value = "http://product.shop.svc:9090", value_parser = endpoint, value_name = "URL")]
    pub product_url: Endpoint,
    /// The payment service's gRPC API.
    #[arg(long, env = "PAYMENT_URL", default_value = "http://payment.shop.svc:9090", value_parser = endpoint, value_name = "URL")]
    pub payment_url: Endpoint,
    /// How often to look for what is owed: stock to give back, payments to make or take back, half placed orders.
    #[arg(long, env = "SWEEP_EVERY", default_value = "1s", value_parser = duration, value_name = "DURATION")]
    pub sweep_every: Duration,
    /// Age at which a half placed order is given up; above `REQUEST_TIMEOUT`.
    #[arg(long, env = "ABANDONED_AFTER", default_value = "1m", value_parser = duration, value_name = "DURATION")]
    pub abandoned_after: Duration,
    /// How long to try to have an order paid before it is cancelled.
    #[arg(long, env = "PAY_WITHIN", default_value = "15m", value_parser = duration, value_name = "DURATION")]
    pub pay_within: Duration,
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
