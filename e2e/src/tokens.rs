//! An issuer of JSON Web Tokens: keys, key sets and tokens, good and bad.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use p256::ecdsa::SigningKey;
use p256::pkcs8::EncodePrivateKey;
use serde_json::{Value, json};

/// The issuer that the tests' manifests trust.
pub const ISSUER: &str = "https://user.shop.example";
/// Their audience.
pub const AUDIENCE: &str = "shop";

/// An ES256 key with its id.
pub struct Issuer {
    kid: String,
    key: SigningKey,
}

impl Issuer {
    /// A fresh key.
    pub fn new(kid: &str) -> Self {
        let key = loop {
            let bytes: [u8; 32] = rand::random();
            if let Ok(key) = SigningKey::from_slice(&bytes) {
                break key;
            }
        };
        Self { kid: kid.to_owned(), key }
    }

    /// Public half as a JSON Web Key Set.
    pub fn jwks(&self) -> String {
        let point = self.key.verifying_key().to_encoded_point(false);
        let coordinate = |bytes: Option<&p256::FieldBytes>| URL_SAFE_NO_PAD.encode(bytes.unwrap());
        json!({"keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.kid,
            "x": coordinate(point.x()), "y": coordinate(point.y()),
        }]})
        .to_string()
    }

    /// Public half as PEM: what an attacker signs an HS256 token with.
    pub fn public_pem(&self) -> String {
        use p256::pkcs8::{EncodePublicKey, LineEnding};
        self.key.verifying_key().to_public_key_pem(LineEnding::LF).unwrap()
    }

    /// A token with exactly these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let der = self.key.to_pkcs8_der().unwrap();
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.kid.clone());
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_ec_der(der.as_bytes())).unwrap()
    }

    /// A good token for this user and role.
    pub fn token(&self, user: &str, role: &str) -> String {
        self.sign(&claims(user, role))
    }
}

/// Claims of a good token, good for five minutes.
pub fn claims(user: &str, role: &str) -> Value {
    let now = now();
    json!({"iss": ISSUER, "aud": AUDIENCE, "sub": user, "role": role, "iat": now, "exp": now + 300})
}

/// A token made by hand from header and claims, with this signature.
pub fn forge(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(header), part(claims), URL_SAFE_NO_PAD.encode(signature))
}

/// Seconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "tokens are judged by the wall clock")]
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}
