//! `weft_fuzz::targets::http1_chunked` under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weft_fuzz::targets::http1_chunked::run(data));
