//! `weft_fuzz::targets::weft1_frame` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::targets::weft1_frame::run(data));
