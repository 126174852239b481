//! The keys that sign tokens: made, served, used, dropped.
//!
//! A new key is served for a while before it signs, so that nobody sees a token whose key it does not have; an old
//! key is served until the last token it signed has ended. `plan` decides that from the ages alone; the keys are in
//! the database, so all instances agree, and a lock there lets only one of them make the next.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey,
    jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash},
};
use p256::{
    SecretKey,
    elliptic_curve::rand_core::OsRng,
    pkcs8::{EncodePrivateKey as _, LineEnding},
};
use shop_kit::{clock, settings::Secret};
use time::OffsetDateTime;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::store::Store;

/// Instances look for new keys at least this often, and several times while a key is served ahead.
const REFRESH_EVERY: Duration = Duration::from_secs(30);
/// For clocks that differ.
const SKEW: Duration = Duration::from_mins(1);

/// When keys are made, used and dropped.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Age of the newest key at which the next is made.
    pub rotate_every: Duration,
    /// How long a key is served before it signs.
    pub publish_ahead: Duration,
    /// How long a token is valid.
    pub token_lifetime: Duration,
}

/// What to do with keys of given ages.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// The key that signs.
    pub signing: Option<usize>,
    /// How many of the oldest keys nobody needs any more.
    pub ended: usize,
    /// A new key is to be made.
    pub due: bool,
}

/// Decides from when the keys were made, oldest first.
pub fn plan(created: &[OffsetDateTime], now: OffsetDateTime, policy: &Policy) -> Plan {
    // The first key of all signs at once: nobody can have a token of an earlier one.
    let signs_from = |i: usize| if i == 0 { created[0] } else { created[i] + policy.publish_ahead };
    let signing = (0..created.len()).rev().find(|i| *i == 0 || signs_from(*i) <= now);
    let needed_until = |i: usize| match i + 1 {
        next if next < created.len() => Some(signs_from(next) + policy.token_lifetime + SKEW),
        _ => None,
    };
    let ended = (0..created.len()).take_while(|i| needed_until(*i).is_some_and(|end| end <= now)).count();
    Plan { signing, ended, due: created.last().is_none_or(|last| *last + policy.rotate_every <= now) }
}

/// A key as it is kept.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct StoredKey {
    /// Its id.
    pub kid: String,
    /// The private key, PKCS#8 PEM.
    #[sqlx(try_from = "String")]
    pub private_key: Pem,
    /// When it was made.
    pub created: OffsetDateTime,
}

/// A private key as text, never shown.
#[derive(Clone, Debug)]
pub struct Pem(Secret<String>);

impl From<String> for Pem {
    fn from(text: String) -> Self {
        Self(Secret(text))
    }
}

impl Pem {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0.0
    }
}

/// Why keys could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The database failed.
    #[error("reading the signing keys")]
    Store(#[from] sqlx::Error),
    /// A key could not be encoded.
    #[error("encoding a signing key")]
    Encode(#[from] p256::pkcs8::Error),
    /// A stored key cannot be used.
    #[error("using a signing key")]
    Key(#[from] jsonwebtoken::errors::Error),
    /// There is none yet.
    #[error("there is no signing key yet")]
    None,
}

/// One key, ready for use.
struct Ready {
    kid: String,
    created: OffsetDateTime,
    signing: EncodingKey,
    verifying: DecodingKey,
    public: Jwk,
}

/// The signing keys of this instance, as fresh as its last look into the database.
pub struct Keys {
    store: Store,
    policy: Policy,
    ready: RwLock<Arc<Vec<Ready>>>,
}

impl Keys {
    /// No keys; `refresh` gets them.
    pub fn new(store: Store, policy: Policy) -> Self {
        Self { store, policy, ready: RwLock::default() }
    }

    /// Keeps the keys fresh until dropped.
    pub async fn keep_fresh(&self) {
        loop {
            sleep((self.policy.publish_ahead / 3).clamp(Duration::from_secs(1), REFRESH_EVERY)).await;
            if let Err(error) = self.refresh(clock::now()).await {
                warn!(error = shop_kit::errors::chain(&error), "signing keys stay as they are");
            }
        }
    }

    /// Makes a key when one is due, drops those that ended, and loads the rest.
    pub async fn refresh(&self, now: OffsetDateTime) -> Result<(), KeysError> {
        let mut tx = self.store.lock_keys().await?;
        let mut stored = tx.all().await?;
        let created: Vec<_> = stored.iter().map(|key| key.created).collect();
        let plan = plan(&created, now, &self.policy);
        if plan.due {
            let key = make(now)?;
            info!(kid = key.kid, "new signing key");
            tx.insert(&key).await?;
            stored.push(key);
        }
        for key in stored.drain(..plan.ended) {
            info!(kid = key.kid, "signing key ended");
            tx.delete(&key.kid).await?;
        }
        tx.commit().await?;
        let ready = stored.into_iter().map(Ready::load).collect::<Result<Vec<_>, _>>()?;
        *self.ready.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ready);
        Ok(())
    }

    /// Calls `sign` with the key that signs now, and its id.
    pub fn sign<T>(
        &self,
        now: OffsetDateTime,
        sign: impl FnOnce(&str, &EncodingKey) -> T,
    ) -> Result<T, KeysError> {
        let ready = self.ready();
        let created: Vec<_> = ready.iter().map(|key| key.created).collect();
        let key =
            plan(&created, now, &self.policy).signing.and_then(|i| ready.get(i)).ok_or(KeysError::None)?;
        Ok(sign(&key.kid, &key.signing))
    }

    /// Calls `verify` with the key of that id.
    pub fn verify<T>(&self, kid: &str, verify: impl FnOnce(&DecodingKey) -> T) -> Option<T> {
        self.ready().iter().find(|key| key.kid == kid).map(|key| verify(&key.verifying))
    }

    /// The public keys, for all who verify.
    pub fn public(&self) -> JwkSet {
        JwkSet { keys: self.ready().iter().map(|key| key.public.clone()).collect() }
    }

    fn ready(&self) -> Arc<Vec<Ready>> {
        self.ready.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Ready {
    fn load(key: StoredKey) -> Result<Self, KeysError> {
        let signing = EncodingKey::from_ec_pem(key.private_key.as_str().as_bytes())?;
        let mut public = Jwk::from_encoding_key(&signing, Algorithm::ES256)?;
        public.common.key_id = Some(key.kid.clone());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        let verifying = DecodingKey::from_jwk(&public)?;
        Ok(Self { kid: key.kid, created: key.created, signing, verifying, public })
    }
}

fn make(now: OffsetDateTime) -> Result<StoredKey, KeysError> {
    let pem = SecretKey::random(&mut OsRng).to_pkcs8_pem(LineEnding::LF)?;
    let public = Jwk::from_encoding_key(&EncodingKey::from_ec_pem(pem.as_bytes())?, Algorithm::ES256)?;
    let kid = public.thumbprint(ThumbprintHash::SHA256)?;
    Ok(StoredKey { kid, private_key: pem.to_string().into(), created: now })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: Policy = Policy {
        rotate_every: Duration::from_secs(1000),
        publish_ahead: Duration::from_secs(100),
        token_lifetime: Duration::from_secs(50),
    };

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds)
    }

    #[test]
    fn keys_are_served_before_they_sign_and_after_they_signed() {
        for (created, now, signing, ended, due) in [
            (&[][..], 0, None, 0, true),
            (&[0], 0, Some(0), 0, false),
            (&[0], 1000, Some(0), 0, true),
            (&[0, 1000], 1099, Some(0), 0, false),
            (&[0, 1000], 1100, Some(1), 0, false),
            (&[0, 1000], 1100 + 50 + 59, Some(1), 0, false),
            (&[0, 1000], 1100 + 50 + 60, Some(1), 1, false),
            (&[0, 1000, 2000], 9000, Some(2), 2, true),
        ] {
            let created: Vec<_> = created.iter().map(|s| at(*s)).collect();
            assert_eq!(
                plan(&created, at(now), &POLICY),
                Plan { signing, ended, due },
                "{created:?} at {now}"
            );
        }
    }

    proptest! {
        #[test]
        fn whatever_signed_a_live_token_is_still_served(
            gaps in prop::collection::vec(1_i64..2000, 1..6),
            now in 0_i64..12_000,
            age in 0_i64..50,
        ) {
            let created: Vec<_> = gaps.iter().scan(0, |sum, gap| { *sum += gap; Some(at(*sum)) }).collect();
            let signed = at(now - age);
            let then: Vec<_> = created.iter().copied().filter(|c| *c <= signed).collect();
            if let Some(signer) = plan(&then, signed, &POLICY).signing {
                let seen: Vec<_> = created.iter().copied().filter(|c| *c <= at(now)).collect();
                prop_assert!(signer >= plan(&seen, at(now), &POLICY).ended);
            }
        }
    }

    #[test]
    fn a_made_key_can_be_loaded_and_is_never_shown() {
        let key = make(at(0)).unwrap();
        assert!(!format!("{key:?}").contains("PRIVATE"));
        let ready = Ready::load(key).unwrap();
        assert_eq!(ready.public.common.key_id, Some(ready.kid));
        assert!(!serde_json::to_string(&ready.public).unwrap().contains("\"d\""));
    }
}
