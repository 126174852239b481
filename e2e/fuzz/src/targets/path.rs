//! The path of a request target: normal after one pass, without dot segments.

use weft_sidecar::policy::path::NormalPath;

/// The target.
pub fn run(data: &[u8]) {
    let Ok(raw) = std::str::from_utf8(data) else { return };
    let Ok(path) = NormalPath::parse(raw) else { return };
    let text = path.as_str();
    assert!(text.starts_with('/') || text == "*");
    assert!(!text.split('/').any(|segment| matches!(segment, "." | "..")));
    assert_eq!(NormalPath::parse(text).as_ref(), Ok(&path), "not normal after one pass");
}
