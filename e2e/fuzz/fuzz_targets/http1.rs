//! `weft_fuzz::targets::http1` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::targets::http1::run(data));
