//! The path as policies see it: normalised once, before anything looks at it.

/// A normalised path without query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormalPath(pub(crate) Box<str>);

impl NormalPath {
    /// The text, starting with `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
