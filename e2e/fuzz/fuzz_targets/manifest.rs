//! A manifest file: parsed, or refused with places that are in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_crds::manifest;

fuzz_target!(|text: &str| {
    let parsed = manifest::parse("fuzz.yaml", text);
    for problem in &parsed.problems {
        assert!(!problem.to_string().is_empty());
    }
});
