//! A token taken apart (RFC 7515, compact serialisation; RFC 7519). Nothing here is trusted yet: what comes out is only
//! good once `keys.rs` has checked the signature.

use std::borrow::Cow;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::Claims;

/// The parts of a token.
#[derive(Debug)]
pub(super) struct Token<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    pub(super) claims: Claims,
    /// What the signature is over: the first two parts and the dot between them.
    pub(super) signed: &'a str,
    pub(super) signature: &'a str,
}

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    alg: Cow<'a, str>,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

impl<'a> Token<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, &'static str> {
        let (signed, signature) = text.rsplit_once('.').ok_or("the token has no three parts")?;
        let (header, payload) = signed.split_once('.').ok_or("the token has no three parts")?;
        if payload.contains('.') {
            return Err("the token has no three parts");
        }
        let header = decode(header)?;
        let header: Header<'_> =
            serde_json::from_slice(&header).map_err(|_| "the header is no JSON object with `alg`")?;
        // RFC 7515, section 4.1.11: what must be understood and is not, is refused.
        if header.crit.is_some() {
            return Err("`crit` names extensions, and none are known");
        }
        // `none` is no algorithm here, whatever its spelling.
        let algorithm = Algorithm::from_str(&header.alg).map_err(|_| "`alg` is not allowed")?;
        let map = serde_json::from_slice(&decode(payload)?).map_err(|_| "the payload is no JSON object")?;
        Ok(Self { algorithm, key_id: header.kid, claims: Claims { map }, signed, signature })
    }
}

fn decode(part: &str) -> Result<Vec<u8>, &'static str> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| "a part is not base64url")
}
