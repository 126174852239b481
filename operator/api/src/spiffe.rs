//! SPIFFE identities of workloads: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
//! Parsing and printing only; how they get into and out of certificates is in `tls.rs`.
//! Source: SPIFFE-ID 1.0, section 2; the path layout is the one other Kubernetes meshes use.

use std::fmt;
use std::str::FromStr;

/// Identity of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    text: String,
    namespace_at: usize,
    account_at: usize,
}

/// Why a text is not the identity of a workload.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{text}` is not a workload identity: expected spiffe://<trust domain>/ns/<namespace>/sa/<service account>"
)]
pub struct InvalidSpiffeId {
    text: String,
}

const SCHEME: &str = "spiffe://";
/// SPIFFE-ID 1.0, section 2.3: at most 2048 bytes.
const MAX_LENGTH: usize = 2048;

impl SpiffeId {
    /// The identity of a service account. Errors when a part is empty or holds a character that SPIFFE forbids.
    pub fn new(trust_domain: &str, namespace: &str, account: &str) -> Result<Self, InvalidSpiffeId> {
        format!("{SCHEME}{trust_domain}/ns/{namespace}/sa/{account}").parse()
    }

    /// The whole URI.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Trust domain, `cluster.local`.
    pub fn trust_domain(&self) -> &str {
        self.part(SCHEME.len(), self.namespace_at - "/ns/".len())
    }

    /// Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        self.part(self.namespace_at, self.account_at - "/sa/".len())
    }

    /// Kubernetes service account.
    pub fn account(&self) -> &str {
        self.part(self.account_at, self.text.len())
    }

    fn part(&self, from: usize, to: usize) -> &str {
        self.text.get(from..to).unwrap_or_default()
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidSpiffeId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| InvalidSpiffeId { text: text.chars().take(200).collect() })
    }
}

fn parse(text: &str) -> Option<SpiffeId> {
    if text.len() > MAX_LENGTH {
        return None;
    }
    let rest = text.strip_prefix(SCHEME)?;
    let (trust_domain, path) = rest.split_once("/ns/")?;
    let (namespace, account) = path.split_once("/sa/")?;
    let domain_ok = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'.' | b'-' | b'_');
    let segment_ok = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
    let valid = |part: &str, ok: fn(u8) -> bool| !part.is_empty() && part.bytes().all(ok);
    if !valid(trust_domain, domain_ok) || !valid(namespace, segment_ok) || !valid(account, segment_ok) {
        return None;
    }
    let namespace_at = SCHEME.len() + trust_domain.len() + "/ns/".len();
    let account_at = namespace_at + namespace.len() + "/sa/".len();
    Some(SpiffeId { text: text.to_owned(), namespace_at, account_at })
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_identity_is_taken_apart() {
        let id: SpiffeId = "spiffe://cluster.local/ns/shop/sa/order".parse().unwrap();
        assert_eq!((id.trust_domain(), id.namespace(), id.account()), ("cluster.local", "shop", "order"));
    }

    #[test]
    fn what_is_not_a_workload_identity_is_refused() {
        for text in [
            "",
            "spiffe://",
            "https://cluster.local/ns/shop/sa/order",
            "spiffe://cluster.local/ns//sa/order",
            "spiffe://cluster.local/ns/shop/sa/",
            "spiffe://cluster.local/ns/shop/sa/order/extra",
            "spiffe://Cluster.local/ns/shop/sa/order",
            "spiffe://cluster.local/ns/shop/sa/or%64er",
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_printed_back(text in ".{0,80}") {
            if let Ok(id) = text.parse::<SpiffeId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }

        #[test]
        fn parts_come_back(domain in "[a-z0-9.-]{1,20}", ns in "[a-z0-9-]{1,20}", sa in "[a-z0-9.-]{1,20}") {
            let id = SpiffeId::new(&domain, &ns, &sa).unwrap();
            prop_assert_eq!((id.trust_domain(), id.namespace(), id.account()), (&*domain, &*ns, &*sa));
        }
    }
}
