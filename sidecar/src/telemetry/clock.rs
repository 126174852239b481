//! The wall clock, read at the edge only: policies and tests get the time as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, for log lines, spans, tokens and certificates.
#[expect(clippy::disallowed_methods, reason = "the one place where the proxy reads the wall clock")]
pub fn now() -> SystemTime {
    SystemTime::now()
}

/// Seconds since the Unix epoch.
pub fn unix_now() -> i64 {
    unix_seconds(now())
}

/// Seconds since the Unix epoch at this time; 0 before it.
pub fn unix_seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// RFC 3339 in UTC with milliseconds, `2026-11-21T10:04:01.250Z`.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, millis) = (since.as_secs(), since.subsec_millis());
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day of a day since the epoch: years are counted from March, so that the leap day is the last.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_printed_as_rfc_3339() {
        let check = |seconds: u64, expect: &str| {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), expect);
        };
        check(0, "1970-01-01T00:00:00.000Z");
        check(951_782_400, "2000-02-29T00:00:00.000Z");
        check(1_709_164_799, "2024-02-28T23:59:59.000Z");
        check(1_709_164_800, "2024-02-29T00:00:00.000Z");
        check(1_795_255_441, "2026-11-21T10:04:01.000Z");
        check(4_107_542_400, "2100-03-01T00:00:00.000Z");
    }
}
