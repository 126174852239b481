//! What can be set from outside, beside what all services have in common.

use std::time::Duration;

use clap::Parser;
use shop_kit::settings::{Common, RedisServer, Secret, duration, duration_or_none};

/// The settings of the payment service.
#[derive(Parser, Clone, Debug)]
#[command(
    name = "shop-payment",
    version,
    about = "The shop's payment service: pay, refund, and the callbacks of the provider"
)]
pub struct Settings {
    /// What all services have in common.
    #[command(flatten)]
    pub common: Common,
    /// Redis.
    #[command(flatten)]
    pub redis: RedisServer,
    /// How often to look for payments that are not settled, and ask the provider about them.
    #[arg(long, env = "SWEEP_EVERY", default_value = "1s", value_parser = duration, value_name = "DURATION")]
    pub sweep_every: Duration,
    /// Longest to wait for an answer of the provider; what is not answered by then stays pending and is asked again.
    #[arg(long, env = "PROVIDER_TIMEOUT", default_value = "3s", value_parser = duration, value_name = "DURATION")]
    pub provider_timeout: Duration,
    /// Longest to leave a payment alone that is still open; the first time it is 250 ms, and twice as long each time after.
    #[arg(long, env = "LONGEST_WAIT", default_value = "1m", value_parser = duration, value_name = "DURATION")]
    pub longest_wait: Duration,
    /// How long every call of the simulated provider takes.
    #[arg(long, env = "PROVIDER_DELAY", default_value = "20ms", value_parser = duration_or_none, value_name = "DURATION")]
    pub provider_delay: Duration,
    /// Share of calls, 0 to 1, in which the simulated provider fails: half before it acts, half with its answer lost.
    #[arg(long, env = "PROVIDER_FAILURES", default_value = "0", value_parser = share, value_name = "SHARE")]
    pub provider_failures: f64,
    /// Key with which the provider's callbacks are signed; when not set, one that only the simulated provider knows.
    #[arg(long, env = "CALLBACK_SECRET", value_name = "TEXT", hide_env_values = true)]
    pub callback_secret: Option<Secret<String>>,
    /// Where the simulated provider calls back; this instance when not set.
    #[arg(long, env = "CALLBACK_URL", value_name = "URL")]
    pub callback_url: Option<http::Uri>,
    /// How long after a charge with `tok_callback` the simulated provider calls back.
    #[arg(long, env = "CALLBACK_DELAY", default_value = "2s", value_parser = duration_or_none, value_name = "DURATION")]
    pub callback_delay: Duration,
}

impl AsRef<Common> for Settings {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

/// Reads a number from 0 to 1.
fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a number from 0 to 1".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_from_0_to_1() {
        for (text, expect) in [
            ("0", Some(0.0)),
            ("0.25", Some(0.25)),
            ("1", Some(1.0)),
            ("1.1", None),
            ("-0.1", None),
            ("NaN", None),
        ] {
            assert_eq!(share(text).ok(), expect, "{text}");
        }
    }

    #[test]
    fn the_readme_shows_the_same_table() {
        shop_kit::testing::readme_shows::<Settings>();
    }
}
