//! What can be set from outside, beside what all services have in common.

use std::{num::NonZero, thread, time::Duration};

use clap::Parser;
use shop_kit::settings::{Common, Secret, duration};

use crate::domain::keys::Policy;

/// The settings of the user service.
#[derive(Parser, Clone, Debug)]
#[command(name = "shop-user", version, about = "The shop's user service")]
pub struct Settings {
    /// What all services have in common.
    #[command(flatten)]
    pub common: Common,
    /// Who issues the tokens: their claim iss.
    #[arg(long, env = "ISSUER", default_value = "https://user.shop.example", value_name = "URL")]
    pub issuer: String,
    /// Whom the tokens are for: their claim aud.
    #[arg(long, env = "AUDIENCE", default_value = "shop", value_name = "NAME")]
    pub audience: String,
    /// How long a token is valid.
    #[arg(long, env = "TOKEN_LIFETIME", default_value = "15m", value_parser = duration, value_name = "DURATION")]
    pub token_lifetime: Duration,
    /// How often a new signing key is made.
    #[arg(long, env = "ROTATE_KEYS_EVERY", default_value = "24h", value_parser = duration, value_name = "DURATION")]
    pub rotate_keys_every: Duration,
    /// How long a new key is served before it signs, so that all who verify have it by then.
    #[arg(long, env = "PUBLISH_KEYS_AHEAD", default_value = "10m", value_parser = duration, value_name = "DURATION")]
    pub publish_keys_ahead: Duration,
    /// Passwords hashed at once, each with 19 MiB; as many as cores when not set.
    #[arg(long, env = "HASHERS", value_name = "N")]
    pub hashers: Option<NonZero<u16>>,
    /// E-mail address of an account with the role admin, made at start; needs `ADMIN_PASSWORD`.
    #[arg(long, env = "ADMIN_EMAIL", requires = "admin_password", value_name = "EMAIL")]
    pub admin_email: Option<String>,
    /// Password of that account when it is made; an existing account keeps its own.
    #[arg(long, env = "ADMIN_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    pub admin_password: Option<Secret<String>>,
}

impl AsRef<Common> for Settings {
    fn as_ref(&self) -> &Common {
        &self.common
    }
}

impl Settings {
    /// When keys are made, used and dropped.
    pub fn key_policy(&self) -> Policy {
        Policy {
            rotate_every: self.rotate_keys_every,
            publish_ahead: self.publish_keys_ahead,
            token_lifetime: self.token_lifetime,
        }
    }

    /// How many passwords are hashed at once.
    pub fn hashers(&self) -> usize {
        let cores = || thread::available_parallelism().map_or(1, NonZero::get);
        self.hashers.map_or_else(cores, |hashers| usize::from(hashers.get()))
    }

    /// The admin account to make at start: e-mail address and password.
    pub fn admin(&self) -> Option<(&str, &str)> {
        Some((self.admin_email.as_deref()?, self.admin_password.as_ref()?.0.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_shows_the_same_table() {
        shop_kit::testing::readme_shows::<Settings>();
    }

    #[test]
    fn an_admin_needs_a_password() {
        let url = "--database-url=postgres://db/users";
        let read = |args: &[&str]| Settings::try_parse_from([&["shop-user", url], args].concat());
        assert!(read(&["--admin-email=a@b.c"]).is_err());
        let settings = read(&["--admin-email=a@b.c", "--admin-password=hunter22"]).unwrap();
        assert_eq!(settings.admin(), Some(("a@b.c", "hunter22")));
        assert!(!format!("{settings:?}").contains("hunter22"));
    }
}
