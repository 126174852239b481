//! What consistent hashing hashes: the part of a request that belongs together, and the hash itself, which is the same
//! in every process, so that all proxies send a key to the same endpoint.

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderName, header};
use weft_api::v1;

use super::session::Session;
use crate::policy::ConfigError;
use crate::policy::pattern::header_name;

/// The part of a request that decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HashOn {
    Header(HeaderName),
    Cookie {
        name: Box<str>,
        /// Set by the proxy where it is missing, for so long.
        set: Option<Duration>,
    },
    ClientIp,
}

impl HashOn {
    pub(super) fn new(config: &v1::HashOn) -> Result<Option<Self>, ConfigError> {
        use v1::hash_on::On;
        Ok(match &config.on {
            Some(On::Header(name)) => Some(Self::Header(header_name("loadBalancing.hashOn.header", name)?)),
            Some(On::Cookie(name)) => {
                let set = config.set_cookie_ms.map(Duration::from_millis);
                Some(Self::Cookie { name: name.as_str().into(), set })
            }
            Some(On::ClientIp(true)) => Some(Self::ClientIp),
            Some(On::ClientIp(false)) | None => None,
        })
    }

    pub(super) fn key(&self, headers: &HeaderMap, client_ip: IpAddr) -> Option<u64> {
        match self {
            Self::Header(name) => headers.get(name).map(|value| hash_key(value.as_bytes())),
            Self::Cookie { name, .. } => cookie(headers, name).map(hash_key),
            Self::ClientIp => Some(match client_ip.to_canonical() {
                IpAddr::V4(ip) => hash_key(&ip.octets()),
                IpAddr::V6(ip) => hash_key(&ip.octets()),
            }),
        }
    }
}

impl HashOn {
    /// The session that begins with a request without the cookie, where one is to begin.
    pub(super) fn begin(
        &self,
        headers: &HeaderMap,
        random: impl FnOnce() -> u128,
        tls: bool,
    ) -> Option<Session> {
        let Self::Cookie { name, set: Some(lifetime) } = self else { return None };
        if cookie(headers, name).is_some() { None } else { Session::new(name, *lifetime, random(), tls) }
    }
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let pairs = headers.get_all(header::COOKIE).iter().flat_map(|v| v.as_bytes().split(|b| *b == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// Hashes the bytes that requests are kept together by.
pub fn hash_key(bytes: &[u8]) -> u64 {
    // FNV-1a, then mixed: FNV alone leaves the upper bits of short keys alike.
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    }))
}

/// The finalizer of `SplitMix64`.
pub(super) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
