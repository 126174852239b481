//! JSON Web Tokens: who the user is.

/// Claims of a verified token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// As in the token.
    pub map: serde_json::Map<String, serde_json::Value>,
}
