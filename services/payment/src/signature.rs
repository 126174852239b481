//! Signatures of callbacks, as Stripe makes them: `Provider-Signature: t=<unix seconds>,v1=<hex>`, where the value is
//! HMAC-SHA256 with the shared secret over `<t>.<body>`. Several `v1` may stand beside each other while a secret is
//! replaced. The time is signed too, so a callback that was caught cannot be sent again later.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use time::{Duration, OffsetDateTime};

/// The header that carries the signature.
pub const HEADER: &str = "provider-signature";
/// How far the time of a callback may be from ours, either way.
const TOLERANCE: Duration = Duration::minutes(5);
const MOST_SIGNATURES: usize = 8;

/// Why a callback is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forged {
    /// There is no signature, or it cannot be read.
    #[error("the header Provider-Signature is missing or not t=SECONDS,v1=HEX")]
    Unreadable,
    /// It was signed too long ago, or in the future.
    #[error("the callback was signed more than 5 minutes from now")]
    Stale,
    /// It was signed with another secret, or the body was changed.
    #[error("the signature does not fit the body")]
    Wrong,
}

/// The secret shared with the provider.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

impl Key {
    /// The key of that secret.
    pub fn new(secret: &[u8]) -> Self {
        Self(Hmac::new_from_slice(secret).expect("HMAC takes a key of any length"))
    }

    /// The value of the header for a body.
    pub fn sign(&self, body: &[u8], now: OffsetDateTime) -> String {
        let seconds = now.unix_timestamp();
        let code = self.over(&seconds.to_string(), body).finalize().into_bytes();
        code.iter().fold(format!("t={seconds},v1="), |header, byte| header + &format!("{byte:02x}"))
    }

    /// Checks the value of the header. Comparing takes the same time wherever the values differ.
    pub fn verify(&self, header: &str, body: &[u8], now: OffsetDateTime) -> Result<(), Forged> {
        let pairs = || header.split(',').filter_map(|pair| pair.trim().split_once('='));
        let seconds = pairs().find(|(name, _)| *name == "t").map(|(_, value)| value);
        let seconds = seconds.ok_or(Forged::Unreadable)?;
        let signed = seconds.parse().ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
        let codes = pairs().filter(|(name, _)| *name == "v1").take(MOST_SIGNATURES);
        let codes: Vec<Vec<u8>> = codes.filter_map(|(_, value)| bytes(value)).collect();
        let (Some(signed), false) = (signed, codes.is_empty()) else { return Err(Forged::Unreadable) };
        if !codes.iter().any(|code| self.over(seconds, body).verify_slice(code).is_ok()) {
            return Err(Forged::Wrong);
        }
        if (now - signed).abs() > TOLERANCE { Err(Forged::Stale) } else { Ok(()) }
    }

    fn over(&self, seconds: &str, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(seconds.as_bytes());
        mac.update(b".");
        mac.update(body);
        mac
    }
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    };
    hex.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    #[test]
    fn the_value_is_what_openssl_makes_of_it() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac secret
        let expect = "t=1700000000,v1=49f24e537407743fa4a0242bb63b94b9a47ee99cbbe071ccd8a22550ae411686";
        let made = Key::new(b"secret").sign(br#"{"a":1}"#, at(1_700_000_000));
        assert_eq!(made, expect);
    }

    #[test]
    fn only_the_signed_body_at_its_time_is_believed() {
        let key = Key::new(b"secret");
        let good = key.sign(b"body", at(1000));
        let other = Key::new(b"other").sign(b"body", at(1000));
        let code = |header: &str| header.split_once(",v1=").unwrap().1.to_owned();
        for (header, body, now, expect) in [
            (good.clone(), "body", 1000, Ok(())),
            (good.clone(), "body", 1300, Ok(())),
            (good.clone(), "body", 700, Ok(())),
            (good.clone(), "body", 1301, Err(Forged::Stale)),
            (good.clone(), "body", 699, Err(Forged::Stale)),
            (good.clone(), "Body", 1000, Err(Forged::Wrong)),
            (other.clone(), "body", 1000, Err(Forged::Wrong)),
            (format!("t=1000,v1={},v1={}", code(&other), code(&good)), "body", 1000, Ok(())),
            (format!("t=1001,v1={}", code(&good)), "body", 1000, Err(Forged::Wrong)),
            ("t=1000,v1=00".into(), "body", 1000, Err(Forged::Wrong)),
            ("t=1000,v1=0".into(), "body", 1000, Err(Forged::Unreadable)),
            ("t=1000,v1=+f".into(), "body", 1000, Err(Forged::Unreadable)),
            ("t=1000,v0=aa".into(), "body", 1000, Err(Forged::Unreadable)),
            (format!("t=99999999999999999,v1={}", code(&good)), "body", 1000, Err(Forged::Unreadable)),
            (String::new(), "body", 1000, Err(Forged::Unreadable)),
        ] {
            assert_eq!(key.verify(&header, body.as_bytes(), at(now)), expect, "{header} {body} {now}");
        }
    }
}
