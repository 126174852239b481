//! Who asks, as the sidecar says: their id and role (`Caller`), and here their name and when their token expires.

use ::http::{HeaderMap, request::Parts};
use axum::extract::FromRequestParts;
use shop_kit::{
    cx::Caller,
    errors::{Kind, Problem},
};
use time::OffsetDateTime;

use crate::domain::frame::Person;

/// The header with the claim `name`.
const USER_NAME: &str = "x-user-name";
/// The header with the claim `exp`.
const TOKEN_EXPIRES: &str = "x-token-expires";
const LONGEST_NAME: usize = 100;

/// The caller, as others in a room see them.
pub struct Visitor {
    /// Who.
    pub person: Person,
    /// When their token expires, where the sidecar says so.
    pub expires: Option<OffsetDateTime>,
}

impl<S: Send + Sync> FromRequestParts<S> for Visitor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let name =
            name(&parts.headers).unwrap_or_else(|| format!("user-{:.8}", caller.id.simple().to_string()));
        Ok(Self { person: Person { user: caller.id, name }, expires: expires(&parts.headers)? })
    }
}

fn name(headers: &HeaderMap) -> Option<String> {
    let name = std::str::from_utf8(headers.get(USER_NAME)?.as_bytes()).ok()?.trim();
    let name: String = name.chars().filter(|c| !c.is_control()).take(LONGEST_NAME).collect();
    (!name.is_empty()).then_some(name)
}

/// A `NumericDate` (RFC 7519): seconds, which may have a fraction.
fn expires(headers: &HeaderMap) -> Result<Option<OffsetDateTime>, Problem> {
    let Some(value) = headers.get(TOKEN_EXPIRES) else { return Ok(None) };
    let bad =
        || Problem::new(Kind::Unauthenticated, "unauthenticated", "the token's time of expiry is unreadable");
    let text = value.to_str().map_err(|_| bad())?;
    let seconds: i64 = text.split('.').next().unwrap_or_default().parse().map_err(|_| bad())?;
    OffsetDateTime::from_unix_timestamp(seconds).map(Some).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(::http::HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn a_time_of_expiry_is_read_or_refused() {
        for (value, expect) in [
            ("1700000000", Some(1_700_000_000)),
            ("1700000000.75", Some(1_700_000_000)),
            ("-1", Some(-1)),
            ("", None),
            ("soon", None),
            ("1e12", None),
            ("99999999999999999999", None),
            ("9999999999999999", None),
        ] {
            let got = expires(&headers(TOKEN_EXPIRES, value)).ok().flatten();
            assert_eq!(got.map(OffsetDateTime::unix_timestamp), expect, "{value}");
        }
        assert_eq!(expires(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn a_name_is_short_and_never_empty() {
        let long = "x".repeat(200);
        for (value, expect) in
            [("Ada", Some("Ada")), (" Ada ", Some("Ada")), ("", None), ("  ", None), (&long, long.get(..100))]
        {
            assert_eq!(name(&headers(USER_NAME, value)).as_deref(), expect, "{value}");
        }
        let utf8 = ::http::HeaderValue::from_bytes("Zoë".as_bytes()).unwrap();
        let mut all = HeaderMap::new();
        all.insert(USER_NAME, utf8);
        assert_eq!(name(&all).as_deref(), Some("Zoë"));
    }
}
