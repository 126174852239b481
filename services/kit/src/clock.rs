//! The wall clock: the one place that reads it. Everything else takes the time as an argument.

use time::OffsetDateTime;

/// Now, in UTC, to the microsecond, which is what PostgreSQL keeps.
pub fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(now.microsecond() * 1000).unwrap_or(now)
}
