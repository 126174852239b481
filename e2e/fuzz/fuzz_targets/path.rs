//! The path of a request target: normal after one pass, without dot segments.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_sidecar::policy::path::NormalPath;

fuzz_target!(|raw: &str| {
    let Ok(path) = NormalPath::parse(raw) else { return };
    let text = path.as_str();
    assert!(text.starts_with('/') || text == "*");
    assert!(!text.split('/').any(|segment| matches!(segment, "." | "..")));
    assert_eq!(NormalPath::parse(text).as_ref(), Ok(&path), "not normal after one pass");
});
