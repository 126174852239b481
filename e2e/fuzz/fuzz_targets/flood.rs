//! `weft_fuzz::targets::flood` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::targets::flood::run(data));
