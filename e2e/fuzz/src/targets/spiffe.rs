//! An identity out of a certificate: refused, or printed back as it was.

use weft_api::spiffe::SpiffeId;

/// The target.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(id) = text.parse::<SpiffeId>() else { return };
    assert_eq!(id.to_string(), text);
    let again = SpiffeId::new(id.trust_domain(), id.namespace(), id.account());
    assert_eq!(again.as_ref(), Ok(&id), "an identity is more than its parts");
}
