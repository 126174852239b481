//! Bytes of a peer of `weft/1`, for both sides: whatever comes, the side ends in good order. The first byte says which side,
//! whether the peer greets, and in what pieces the rest comes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_fuzz::transport;

fuzz_target!(|data: &[u8]| {
    if let Some((&how, bytes)) = data.split_first() {
        transport::feed(how, bytes);
    }
});
