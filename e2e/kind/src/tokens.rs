//! An issuer of JSON Web Tokens for the tests' manifests.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use k8s_openapi::jiff::Timestamp;
use p256::ecdsa::SigningKey;
use p256::pkcs8::EncodePrivateKey;
use serde_json::json;

/// Name of the issuer.
pub const ISSUER: &str = "https://issuer.example";
/// Audience of its tokens.
pub const AUDIENCE: &str = "e2e";

/// An issuer with a key of its own.
pub struct Issuer {
    key: SigningKey,
}

impl Issuer {
    /// A fresh key.
    pub fn new() -> Result<Self> {
        let bytes: [u8; 32] = rand::random();
        Ok(Self { key: SigningKey::from_slice(&bytes).context("a random number that is no key; try again")? })
    }

    /// Its public key as a JSON Web Key Set.
    pub fn jwks(&self) -> Result<String> {
        let point = self.key.verifying_key().to_encoded_point(false);
        let x = URL_SAFE_NO_PAD.encode(point.x().context("a point has an x")?);
        let y = URL_SAFE_NO_PAD.encode(point.y().context("an uncompressed point has a y")?);
        let key =
            json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "e2e", "x": x, "y": y});
        Ok(json!({"keys": [key]}).to_string())
    }

    /// A token for a role that is good for so many seconds; ended already where they are negative.
    pub fn token(&self, role: &str, seconds: i64) -> Result<String> {
        let now = Timestamp::now().as_second();
        let claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "role": role,
            "iat": now - 3600, "exp": now + seconds,
        });
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some("e2e".to_owned());
        let der = self.key.to_pkcs8_der().context("a key can be written")?;
        Ok(jsonwebtoken::encode(&header, &claims, &EncodingKey::from_ec_der(der.as_bytes()))?)
    }
}
