//! A session that begins with this request: the cookie that `ConsistentHash` goes by, made here where the client brings
//! none and the policy says so. Its value is random and says nothing about where it leads.

use std::time::Duration;

use http::HeaderValue;

use super::hash::hash_key;

/// A cookie to be set, and the key that it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// What is hashed, as if the request had brought the cookie.
    pub key: u64,
    /// For `Set-Cookie`.
    pub cookie: HeaderValue,
}

impl Session {
    /// A new one. `random` is its value, `lifetime` zero for one that ends with the client.
    pub(super) fn new(name: &str, lifetime: Duration, random: u128, tls: bool) -> Option<Self> {
        let mut text = uuid::Uuid::encode_buffer();
        let value: &str = uuid::Uuid::from_u128(random).simple().encode_lower(&mut text);
        // Lax: what follows a link from elsewhere stays with its instance (RFC 6265bis, section 5.6.7).
        let age = match lifetime.as_secs() {
            _ if lifetime.is_zero() => String::new(),
            seconds => format!("; Max-Age={}", seconds.max(1)),
        };
        let secure = if tls { "; Secure" } else { "" };
        let cookie = format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{age}{secure}");
        Some(Self { key: hash_key(value.as_bytes()), cookie: HeaderValue::try_from(cookie).ok()? })
    }
}
