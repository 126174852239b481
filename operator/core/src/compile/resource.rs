//! Resources with their versions, each once.
//!
//! The version is a hash of the content, so equal versions are equal resources whoever compiled them and when.

use std::collections::BTreeMap;

use prost::Message;
use sha2::{Digest, Sha256};
use weft_api::v1;
pub use weft_api::v1::resource::Body;

/// Name of the resources there is only one of.
pub const SELF: &str = "self";

/// Resources by kind and name.
#[derive(Debug, Default)]
pub struct Set {
    resources: BTreeMap<(i32, String), v1::Resource>,
}

impl Set {
    /// Adds a resource; of two with the same kind and name the first stays, since both say the same.
    pub fn add(&mut self, name: &str, body: Body) {
        let resource = versioned(name, body);
        self.resources.entry((resource.kind().into(), resource.name.clone())).or_insert(resource);
    }

    /// All of them, by kind, then by name.
    pub fn into_resources(self) -> Vec<v1::Resource> {
        self.resources.into_values().collect()
    }
}

/// A resource with its version.
pub fn versioned(name: &str, body: Body) -> v1::Resource {
    let mut resource = v1::Resource { name: name.to_owned(), version: String::new(), body: Some(body) };
    resource.version = hash(&resource.encode_to_vec());
    resource
}

fn hash(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let head = digest.iter().take(8).fold(0_u64, |head, byte| head << 8 | u64::from(*byte));
    format!("{head:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_content_has_equal_versions() {
        let keys = |text: &str| Body::Keys(v1::Keys { jwks: text.to_owned(), ..v1::Keys::default() });
        let version = |name: &str, text: &str| versioned(name, keys(text)).version;
        assert_eq!(version("a", "x"), version("a", "x"));
        assert_ne!(version("a", "x"), version("a", "y"));
        assert_eq!(version("a", "x").len(), 16);
    }
}
