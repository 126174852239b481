//! A delta as bytes of the operator's stream: applied whole or refused whole, on an empty snapshot and on its own result.

use prost::Message;
use weft_api::v1::Delta;
use weft_sidecar::config::apply::apply;
use weft_sidecar::config::snapshot::Snapshot;

/// The target.
pub fn run(data: &[u8]) {
    let Ok(delta) = Delta::decode(data) else { return };
    if let Ok(snapshot) = apply(&Snapshot::default(), delta.clone()) {
        assert!(apply(&snapshot, delta).is_ok(), "what was applied is refused the second time");
    }
}
