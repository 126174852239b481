//! What can be set from outside, beside what all services have in common.

use std::time::Duration;

use clap::Parser;
use shop_kit::settings::{Common, RedisServer, duration, endpoint};
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
    /// How long a reservation is held before it must be paid.
    #[arg(long, env = "RESERVATION_LIFETIME", default_value = "2m", value_parser = duration, value_name = "DURATION")]
    pub reservation_lifetime: Duration,
    /// How often to look for reservations that have expired, seats to give back and payments that were left open.
    #[arg(long, env = "SWEEP_EVERY", default_value = "1s", value_parser = duration, value_name = "DURATION")]
    pub sweep_every: Duration,
    /// How long a payment may be open before the payment service is asked what became of it.
    #[arg(long, env = "SETTLE_AFTER", default_value = "5s", value_parser = duration, value_name = "DURATION")]
    pub settle_after: Duration,
    /// How long after the end of its reservation a ticket whose payment never came is given up; above `REQUEST_TIMEOUT`.
    #[arg(long, env = "ABANDONED_AFTER", default_value = "1m", value_parser = duration, value_name = "DURATION")]
    pub abandoned_after: Duration,
    /// How often Redis and the database are proved to agree about the events on sale.
    #[arg(long, env = "RECONCILE_EVERY", default_value = "1m", value_parser = duration, value_name = "DURATION")]
    pub reconcile_every: Duration,
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
