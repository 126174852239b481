//! Who the end user is: tokens that are checked before a request reaches the service.
//!
//! Keys are fetched by the operator and pushed to sidecars; a sidecar never calls an issuer. What a user may do
//! is said in `authorization`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{defaults, rules};

/// Tokens that are checked on the way in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Authentication {
    /// Issuers whose JSON Web Tokens are accepted. 1 to 8. Example: `[{issuer: "https://user.example", jwks: {uri: "http://user.shop.svc/jwks.json"}}]`.
    #[schemars(length(min = 1, max = 8))]
    pub jwt: Vec<JwtProvider>,

    /// Whether a request needs a token. With `false` a bad token is still refused, but none is let through.
    /// Default: `true`. Example: `false`.
    #[serde(default = "defaults::yes")]
    pub required: bool,

    /// Requests that need no token even so. A bad token is not looked at there. Default: none. At most 64.
    /// Example: `[{methods: [GET], paths: [/health, "/products*"]}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub exempt: Vec<Exempt>,
}

/// One issuer of JSON Web Tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JwtProvider {
    /// The `iss` claim of its tokens. 1 to 2048 characters. Example: `https://user.shop.example`.
    #[schemars(length(min = 1, max = 2048))]
    pub issuer: String,

    /// Values of the `aud` claim of which a token must have one. Default: any audience. At most 32. Example: `[shop]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 2048)))]
    pub audiences: Vec<String>,

    /// Where its public keys are. Example: `{uri: "http://user.shop.svc/.well-known/jwks.json"}`.
    pub jwks: Jwks,

    /// Where tokens are looked for, the first place that has one counts. At most 8.
    /// Default: `[{header: Authorization, prefix: "Bearer "}]`. Example: `[{cookie: session}]`.
    #[serde(default = "authorization_header")]
    #[schemars(length(min = 1, max = 8))]
    pub from: Vec<TokenSource>,

    /// Claims that the service gets as headers, by claim. A claim inside another is written with a dot. Such headers
    /// from outside are always removed first. Header names in lower case. Default: none. At most 32.
    /// Example: `{sub: x-user-id, role: x-user-role}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 32,
        "additionalProperties" = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9_]*[a-z0-9])?$", "maxLength": 128}
    ))]
    pub claim_headers: BTreeMap<String, String>,

    /// Whether the service gets the token too. Default: `false`. Example: `true`.
    #[serde(default)]
    pub forward_token: bool,
}

/// Public keys of an issuer. Exactly one of the three.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::cel(rules::JWKS)))]
pub struct Jwks {
    /// Address to fetch the key set from, `http` or `https`, at most 2048 characters. The operator fetches it, keeps
    /// the last good one, and refuses link-local and metadata addresses. Default: none.
    /// Example: `http://user.shop.svc/.well-known/jwks.json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s/]+(/\S*)?$"))]
    pub uri: Option<String>,

    /// The key set itself, as JSON text, at most 65536 characters. Default: none. Example: `'{"keys": []}'`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 65536))]
    pub inline: Option<String>,

    /// A Secret of the same namespace that holds the key set. Default: none. Example: `{name: issuer-keys}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
}

/// A key of a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretKeyRef {
    /// Name of the Secret. 1 to 253 characters. Example: `issuer-keys`.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// Key in it. 1 to 253 characters. Default: `jwks.json`. Example: `keys.json`.
    #[serde(default = "defaults::jwks_secret_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A place where a token may be. Exactly one of `header`, `cookie` and `query`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::cel(rules::TOKEN_SOURCE)))]
pub struct TokenSource {
    /// Header that holds it. 1 to 128 characters. Default: none. Example: `Authorization`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"))]
    pub header: Option<String>,

    /// What stands before it in the header. At most 64 characters. Default: nothing. Only with `header`.
    /// Example: `"Bearer "`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub prefix: Option<String>,

    /// Cookie that holds it. 1 to 128 characters. Default: none. Example: `session`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"))]
    pub cookie: Option<String>,

    /// Query parameter that holds it. 1 to 128 characters. Default: none. Example: `access_token`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub query: Option<String>,
}

/// A [`TokenSource`] as the one thing that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenPlace<'a> {
    /// A header, and what stands before the token in it.
    Header {
        /// Name of the header.
        name: &'a str,
        /// What stands before the token.
        prefix: &'a str,
    },
    /// A cookie of that name.
    Cookie(&'a str),
    /// A query parameter of that name.
    Query(&'a str),
}

impl TokenSource {
    /// The place it names; none where it names none, which validation refuses.
    pub fn place(&self) -> Option<TokenPlace<'_>> {
        let prefix = self.prefix.as_deref().unwrap_or_default();
        let header = self.header.as_deref().map(|name| TokenPlace::Header { name, prefix });
        let cookie = self.cookie.as_deref().map(TokenPlace::Cookie);
        header.or(cookie).or(self.query.as_deref().map(TokenPlace::Query))
    }
}

/// Requests that need no token. Both lists must match where given; one of the two must be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = rules::cel(rules::EXEMPT)))]
pub struct Exempt {
    /// Methods, in capitals. Default: all. At most 16. Example: `[GET, HEAD]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 32), regex(pattern = "^[A-Z]+$")))]
    pub methods: Vec<String>,

    /// Paths, exact or with `*` at the end for everything that begins so. Default: all. At most 64.
    /// Example: `[/health, "/products*"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 1024), regex(pattern = r"^/[^*?#\s]*\*?$")))]
    pub paths: Vec<String>,
}

fn authorization_header() -> Vec<TokenSource> {
    vec![TokenSource {
        header: Some(defaults::TOKEN_HEADER.to_owned()),
        prefix: Some(defaults::TOKEN_PREFIX.to_owned()),
        ..TokenSource::default()
    }]
}
