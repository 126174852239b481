//! `weft_fuzz::targets::client_hello` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::targets::client_hello::run(data));
