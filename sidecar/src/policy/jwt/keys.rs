//! The keys of an issuer (RFC 7517) and the check of a signature (RFC 7518, RFC 8037). A key says by its type which
//! algorithms it may be used with, so a public key never becomes a secret: `HS256` needs a key of type `oct`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::Deserialize;
use weft_api::v1;

use super::token::Token;
use crate::policy::ConfigError;
use crate::reject::{Reason, Reject};

/// Most keys of a set; the rest is passed over.
const MAX_KEYS: usize = 64;
/// Most signatures checked for one token.
const MAX_TRIES: usize = 4;

/// The usable keys of one issuer.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Box<[Key]>,
    passed_over: Box<[Box<str>]>,
    /// Why there are none, if none have been fetched yet.
    unavailable: Option<Box<str>>,
}

#[derive(Debug)]
struct Key {
    id: Option<Box<str>>,
    kind: Kind,
    /// The only algorithm it may be used with, where it says so.
    algorithm: Option<Algorithm>,
    material: DecodingKey,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
    /// A shared secret of this many bytes.
    Secret(usize),
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<serde_json::Value>,
}

/// The members that matter (RFC 7517, section 4; RFC 7518, section 6).
#[derive(Default, Deserialize)]
#[serde(default)]
struct Jwk {
    kty: String,
    kid: Option<Box<str>>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: String,
    n: String,
    e: String,
    x: String,
    y: String,
    k: String,
}

impl KeySet {
    /// Reads the wire form. Keys that cannot be used here are passed over, since an issuer may have keys for others.
    pub fn parse(config: &v1::Keys) -> Result<Self, ConfigError> {
        if config.jwks.is_empty() {
            let why = if config.error.is_empty() { "not fetched yet" } else { &*config.error };
            return Ok(Self { unavailable: Some(why.into()), ..Self::default() });
        }
        let set: Jwks = serde_json::from_str(&config.jwks).map_err(ConfigError::Keys)?;
        let (mut keys, mut passed_over) = (Vec::new(), Vec::new());
        for (index, value) in set.keys.into_iter().enumerate() {
            let parsed =
                serde_json::from_value(value).map_err(|_| "it is no JSON Web Key").and_then(Key::new);
            match parsed {
                Ok(key) if keys.len() < MAX_KEYS => keys.push(key),
                Ok(_) => passed_over.push(format!("key {index}: there are too many").into()),
                Err(why) => passed_over.push(format!("key {index}: {why}").into()),
            }
        }
        Ok(Self { keys: keys.into(), passed_over: passed_over.into(), unavailable: None })
    }

    /// How many keys can be used.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether none can be used.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Keys that cannot be used and why, for the log.
    pub fn passed_over(&self) -> &[Box<str>] {
        &self.passed_over
    }

    /// Checks the signature.
    pub(super) fn check(&self, token: &Token<'_>) -> Result<(), Reject> {
        if let Some(why) = &self.unavailable {
            return Err(Reject::new(Reason::JwksUnavailable).because(&**why));
        }
        let named = |key: &&Key| token.key_id.as_deref().is_none_or(|id| key.id.as_deref() == Some(id));
        let fitting = |key: &&Key| key.fits(token.algorithm);
        if !self.keys.iter().any(|key| named(&key)) {
            return Err(Reject::new(Reason::JwtUnknownKey));
        }
        if !self.keys.iter().filter(named).any(|key| fitting(&key)) {
            return Err(Reject::new(Reason::JwtSignature).because("`alg` does not fit the key"));
        }
        let good =
            self.keys.iter().filter(named).filter(fitting).take(MAX_TRIES).any(|key| key.signed(token));
        if good { Ok(()) } else { Err(Reject::new(Reason::JwtSignature)) }
    }
}

impl Key {
    fn new(jwk: Jwk) -> Result<Self, &'static str> {
        if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return Err("its `use` is not `sig`");
        }
        if jwk.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify")) {
            return Err("its `key_ops` has no `verify`");
        }
        let algorithm =
            jwk.alg.as_deref().map(str::parse).transpose().map_err(|_| "its `alg` is not supported")?;
        let (kind, material) = match (&*jwk.kty, &*jwk.crv) {
            ("RSA", _) => (Kind::Rsa, rsa(&jwk)?),
            ("EC", "P-256") => (Kind::P256, curve(&jwk, 32)?),
            ("EC", "P-384") => (Kind::P384, curve(&jwk, 48)?),
            ("OKP", "Ed25519") => (Kind::Ed25519, edwards(&jwk)?),
            ("oct", _) => {
                let secret = decode(&jwk.k)?;
                (Kind::Secret(secret.len()), DecodingKey::from_secret(&secret))
            }
            _ => return Err("its `kty` or `crv` is not supported"),
        };
        let key = Self { id: jwk.kid, kind, algorithm: None, material };
        if algorithm.is_some_and(|algorithm| !key.fits(algorithm)) {
            return Err("its `alg` does not fit its `kty`");
        }
        Ok(Self { algorithm, ..key })
    }

    /// Whether this key may check this algorithm.
    fn fits(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, PS384, PS512, RS256, RS384, RS512};
        if self.algorithm.is_some_and(|only| only != algorithm) {
            return false;
        }
        match algorithm {
            RS256 | RS384 | RS512 | PS256 | PS384 | PS512 => self.kind == Kind::Rsa,
            ES256 => self.kind == Kind::P256,
            ES384 => self.kind == Kind::P384,
            EdDSA => self.kind == Kind::Ed25519,
            // RFC 7518, section 3.2: the secret is at least as long as the hash.
            HS256 => matches!(self.kind, Kind::Secret(32..)),
            HS384 => matches!(self.kind, Kind::Secret(48..)),
            HS512 => matches!(self.kind, Kind::Secret(64..)),
            _ => false,
        }
    }

    fn signed(&self, token: &Token<'_>) -> bool {
        crypto::verify(token.signature, token.signed.as_bytes(), &self.material, token.algorithm)
            .unwrap_or(false)
    }
}

/// 2048 to 8192 bits, as the verifier asks.
fn rsa(jwk: &Jwk) -> Result<DecodingKey, &'static str> {
    let (modulus, exponent) = (decode(&jwk.n)?, decode(&jwk.e)?);
    let modulus = without_zeros(&modulus);
    if !(256..=1024).contains(&modulus.len()) {
        return Err("an RSA key has 2048 to 8192 bits here");
    }
    Ok(DecodingKey::from_rsa_raw_components(modulus, without_zeros(&exponent)))
}

fn curve(jwk: &Jwk, size: usize) -> Result<DecodingKey, &'static str> {
    let sized = |part: &str| decode(part).is_ok_and(|bytes| bytes.len() == size);
    if !sized(&jwk.x) || !sized(&jwk.y) {
        return Err("its point has the wrong size");
    }
    DecodingKey::from_ec_components(&jwk.x, &jwk.y).map_err(|_| "its point cannot be read")
}

fn edwards(jwk: &Jwk) -> Result<DecodingKey, &'static str> {
    match decode(&jwk.x)?.len() {
        32 => DecodingKey::from_ed_components(&jwk.x).map_err(|_| "its point cannot be read"),
        _ => Err("its point has the wrong size"),
    }
}

fn decode(part: &str) -> Result<Vec<u8>, &'static str> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| "a part is not base64url")
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}
