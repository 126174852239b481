//! How long a request may take: the destination's timeout and the caller's `grpc-timeout`, whichever is shorter. What is
//! left is passed on, so that nobody works for a caller that has given up.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// The header holds at most eight digits.
const MAX_MILLIS: u128 = 99_999_999;

/// How long the request may take; none: as long as it likes.
pub fn of(headers: &HeaderMap, timeout: Option<Duration>) -> Option<Duration> {
    let asked = headers.get(&GRPC_TIMEOUT).and_then(|value| parse(value.as_bytes()));
    match (asked, timeout) {
        (Some(asked), Some(timeout)) => Some(asked.min(timeout)),
        (asked, timeout) => asked.or(timeout),
    }
}

/// Tells the next hop what is left, where the caller said `grpc-timeout`.
pub fn tell(headers: &mut HeaderMap, deadline: Instant, now: Instant) {
    if !headers.contains_key(&GRPC_TIMEOUT) {
        return;
    }
    let left = deadline.saturating_duration_since(now).as_millis().clamp(1, MAX_MILLIS);
    if let Ok(value) = HeaderValue::try_from(format!("{left}m")) {
        headers.insert(GRPC_TIMEOUT, value);
    }
}

/// `<at most 8 digits><unit>`, units H M S m u n (gRPC over HTTP/2, Requests).
fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_of_both_counts() {
        let mut headers = HeaderMap::new();
        let second = Duration::from_secs(1);
        assert_eq!(of(&headers, None), None);
        assert_eq!(of(&headers, Some(second)), Some(second));
        headers.insert(GRPC_TIMEOUT, HeaderValue::from_static("200m"));
        assert_eq!(of(&headers, Some(second)), Some(Duration::from_millis(200)));
        headers.insert(GRPC_TIMEOUT, HeaderValue::from_static("1H"));
        assert_eq!(of(&headers, Some(second)), Some(second));
        headers.insert(GRPC_TIMEOUT, HeaderValue::from_static("nonsense"));
        assert_eq!(of(&headers, Some(second)), Some(second));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_is_passed_on() {
        let mut headers = HeaderMap::new();
        let now = Instant::now();
        tell(&mut headers, now + Duration::from_millis(150), now);
        assert!(headers.is_empty());
        headers.insert(GRPC_TIMEOUT, HeaderValue::from_static("1S"));
        tell(&mut headers, now + Duration::from_millis(150), now);
        assert_eq!(headers[GRPC_TIMEOUT], "150m");
    }
}
