//! The frames of HTTP/2 that cost and those that do not, however their bytes are cut.

use proptest::prelude::*;

use super::*;

const RST_STREAM: u8 = 3;
const PREFACE_BYTES: &[u8; PREFACE] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags, 0, 0, 0, 1]);
    bytes.extend(payload);
    bytes
}

/// Type, flags and payload of a frame.
type Case = (u8, u8, &'static [u8]);

/// How many of these frames pass at once, of at most 1,000.
fn passing(kind: u8, flags: u8, payload: &[u8]) -> usize {
    let mut frames = Frames::new(10);
    assert!(frames.see(PREFACE_BYTES));
    let bytes = frame(kind, flags, payload);
    (0..1000).take_while(|_| frames.see(&bytes)).count()
}

#[tokio::test(start_paused = true)]
async fn what_brings_nothing_is_limited_and_what_brings_something_is_not() {
    let limited: [Case; 7] = [
        (DATA, 0, b""),
        (RST_STREAM, 0, &[0; 4]),
        (SETTINGS, 0, b""),
        (PING, 0, &[0; 8]),
        (WINDOW_UPDATE, 0, &[0, 0, 0, 1]),
        (9, 0, b"x"),
        (99, 0, b"x"),
    ];
    for (kind, flags, payload) in limited {
        assert_eq!(passing(kind, flags, payload), 20, "type {kind}");
    }
    let free: [Case; 6] = [
        (DATA, 0, b"x"),
        (DATA, FLAG, b""),
        (HEADERS, 5, b"x"),
        (SETTINGS, FLAG, b""),
        (PING, FLAG, &[0; 8]),
        (WINDOW_UPDATE, 0, &[0, 1, 0, 0]),
    ];
    for (kind, flags, payload) in free {
        assert_eq!(passing(kind, flags, payload), 1000, "type {kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_allowance_comes_back_with_time() {
    let mut frames = Frames::new(10);
    // Of the allowance itself: a stream of frames ends with the first that may not pass.
    assert_eq!((0..100).take_while(|_| frames.pay()).count(), 20);
    tokio::time::advance(Duration::from_millis(500)).await;
    assert_eq!((0..100).take_while(|_| frames.pay()).count(), 5);
    tokio::time::advance(Duration::from_hours(1)).await;
    assert_eq!((0..100).take_while(|_| frames.pay()).count(), 20);
}

proptest! {
    /// However the bytes are cut, the same frames are seen.
    #[test]
    fn pieces_do_not_matter(kinds in prop::collection::vec((0u8..12, 0u8..2, 0usize..20), 1..40), cut in 1usize..30) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut bytes = PREFACE_BYTES.to_vec();
            for (kind, flags, length) in &kinds {
                bytes.extend(frame(*kind, *flags, &vec![7; *length]));
            }
            let (mut whole, mut pieces) = (Frames::new(5), Frames::new(5));
            let passes = whole.see(&bytes);
            prop_assert_eq!(bytes.chunks(cut).all(|piece| pieces.see(piece)), passes);
            if passes {
                prop_assert_eq!((whole.left, whole.filled, whole.skip), (pieces.left, pieces.filled, pieces.skip));
            }
            Ok(())
        })?;
    }
}
