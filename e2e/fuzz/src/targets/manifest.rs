//! A manifest file: parsed, or refused with places that are in it.

use weft_crds::manifest;

/// The target.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let parsed = manifest::parse("fuzz.yaml", text);
    for problem in &parsed.problems {
        assert!(!problem.to_string().is_empty());
    }
}
