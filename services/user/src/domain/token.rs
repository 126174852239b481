//! Tokens: what they say, how they are signed and checked. ES256, with the key named by `kid`.
//! The sidecars check them against the served keys; the check here is for those who ask over gRPC.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header, encode, errors::ErrorKind};
use serde::{Deserialize, Serialize};
use shop_kit::cx::Role;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::{
    keys::{Keys, KeysError},
    user::User,
};

/// Longer than any token made here.
const LONGEST: usize = 4096;

/// What a token says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    iss: String,
    aud: String,
    /// The user.
    pub sub: Uuid,
    /// What they may do.
    pub role: Role,
    /// What they are called; tokens from before it was there have none.
    #[serde(default)]
    pub name: String,
    iat: i64,
    nbf: i64,
    /// When the token ends, in seconds since 1970.
    pub exp: i64,
    jti: Uuid,
}

/// A new token.
#[derive(Debug)]
pub struct Issued {
    /// The token.
    pub token: String,
    /// How long it is valid.
    pub lifetime: Duration,
}

/// Why a token is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// It is no token, or not one of ours.
    #[error("malformed")]
    Malformed,
    /// Its key is not known, or not any more.
    #[error("unknown key")]
    UnknownKey,
    /// It was changed, or signed by someone else.
    #[error("wrong signature")]
    WrongSignature,
    /// It has ended.
    #[error("expired")]
    Expired,
    /// Its time has not come.
    #[error("not yet valid")]
    NotYetValid,
    /// It was issued by or for someone else.
    #[error("wrong issuer or audience")]
    WrongParty,
    /// Its user was deleted.
    #[error("the user is gone")]
    UserGone,
}

/// Issues and checks tokens.
pub struct Tokens {
    keys: Arc<Keys>,
    issuer: String,
    audience: String,
    lifetime: Duration,
}

impl Tokens {
    /// Tokens of an issuer for an audience.
    pub fn new(keys: Arc<Keys>, issuer: &str, audience: &str, lifetime: Duration) -> Self {
        Self { keys, issuer: issuer.to_owned(), audience: audience.to_owned(), lifetime }
    }

    /// A token for a user.
    pub fn issue(&self, user: &User, now: OffsetDateTime) -> Result<Issued, KeysError> {
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            sub: user.id,
            role: user.role,
            name: user.name.clone(),
            iat: now.unix_timestamp(),
            nbf: now.unix_timestamp(),
            exp: (now + self.lifetime).unix_timestamp(),
            jti: Uuid::new_v4(),
        };
        let token = self.keys.sign(now, |kid, key| {
            let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::ES256) };
            encode(&header, &claims, key)
        })??;
        Ok(Issued { token, lifetime: self.lifetime })
    }

    /// What a token says, if it is ours and valid now.
    pub fn verify(&self, token: &str) -> Result<Claims, InvalidToken> {
        if token.len() > LONGEST {
            return Err(InvalidToken::Malformed);
        }
        let kid = decode_header(token).ok().and_then(|header| header.kid).ok_or(InvalidToken::Malformed)?;
        let mut rules = Validation::new(Algorithm::ES256);
        rules.set_issuer(&[&self.issuer]);
        rules.set_audience(&[&self.audience]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        rules.validate_nbf = true;
        rules.leeway = 0;
        let checked = self.keys.verify(&kid, |key| decode::<Claims>(token, key, &rules));
        checked.ok_or(InvalidToken::UnknownKey)?.map(|data| data.claims).map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => InvalidToken::Expired,
            ErrorKind::ImmatureSignature => InvalidToken::NotYetValid,
            ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience => InvalidToken::WrongParty,
            ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => InvalidToken::WrongSignature,
            _ => InvalidToken::Malformed,
        })
    }

    /// The keys to verify tokens with.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }
}
