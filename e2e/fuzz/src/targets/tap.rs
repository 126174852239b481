//! The query of the admin page that taps requests.

use weft_sidecar::telemetry::tap::Filter;

/// The target.
pub fn run(data: &[u8]) {
    let Ok(query) = std::str::from_utf8(data) else { return };
    drop(Filter::parse(query));
}
