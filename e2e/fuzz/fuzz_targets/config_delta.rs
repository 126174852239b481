//! `weft_fuzz::targets::config_delta` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::targets::config_delta::run(data));
