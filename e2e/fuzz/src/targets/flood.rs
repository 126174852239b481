//! The frames of a client of HTTP/2, watched before hyper reads them: the verdict does not depend on how the bytes come.

use weft_sidecar::net::flood::Frames;

/// So few that the inputs reach it; the clock gives none back in so short a time.
const LIMIT: u32 = 4;

/// The target.
pub fn run(data: &[u8]) {
    let whole = Frames::new(LIMIT).see(data);
    let mut one_by_one = Frames::new(LIMIT);
    let singly = data.iter().all(|byte| one_by_one.see(std::slice::from_ref(byte)));
    assert_eq!(whole, singly, "in one piece {whole}, in many {singly}");
    assert!(Frames::new(0).see(data), "without a limit nothing is refused");
}
