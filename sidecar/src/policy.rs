//! Policies: pure decisions about a request. No IO, no clock, no randomness of their own: those are arguments. Policies
//! do not know each other; their order stands once per direction in `inbound/http.rs` and `outbound/http.rs`.
//!
//! `path`, `pattern`, `request_match` and `outcome` are the vocabulary the policies share; every other module is one
//! policy: its configuration compiled, its decision, its tests.

pub mod authz;
pub mod breaker;
pub mod cors;
pub mod fallback;
pub mod fault;
pub mod filters;
pub mod jwt;
pub mod limits;
pub mod outcome;
pub mod outlier;
pub mod path;
pub mod pattern;
pub mod rate_limit;
pub mod request_match;
pub mod retry;
pub mod route;

#[cfg(test)]
pub(crate) mod fixture;

/// Why a piece of configuration cannot be used. The operator shows these words, so they name field, value and remedy.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value that means nothing here.
    #[error("{field}: `{value}` cannot be used: {remedy}")]
    Invalid {
        /// Where it stands, as the resource spells it.
        field: &'static str,
        /// What stands there.
        value: Box<str>,
        /// What to write instead.
        remedy: &'static str,
    },
    /// A pattern that does not compile.
    #[error("{field}: `{pattern}` is not a regular expression")]
    Regex {
        /// Where it stands, as the resource spells it.
        field: &'static str,
        /// What stands there.
        pattern: Box<str>,
        /// What the compiler says.
        #[source]
        source: Box<regex::Error>,
    },
    /// A key set that is no JSON Web Key Set.
    #[error("keys: not a JSON Web Key Set (RFC 7517)")]
    Keys(#[source] serde_json::Error),
}

impl ConfigError {
    pub(crate) fn invalid(field: &'static str, value: impl Into<Box<str>>, remedy: &'static str) -> Self {
        Self::Invalid { field, value: value.into(), remedy }
    }
}
