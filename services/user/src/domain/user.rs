//! What an account is, and which input can become one. Pure: no IO, no clock.

use std::fmt;

use serde::{Deserialize, Serialize};
use shop_kit::{cx::Role, errors::FieldError, settings::Secret};
use time::OffsetDateTime;
use uuid::Uuid;

const LONGEST_EMAIL: usize = 254;
const LONGEST_NAME: usize = 100;
const SHORTEST_PASSWORD: usize = 8;
/// Hashing takes time for every byte, so a password has an end.
const LONGEST_PASSWORD: usize = 128;

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct User {
    /// Its id.
    pub id: Uuid,
    /// Its e-mail address.
    pub email: Email,
    /// The name of its user.
    pub name: String,
    /// What its user may do.
    pub role: Role,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
}

/// An e-mail address in lower case, since nobody means two accounts by two spellings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Email(String);

impl Email {
    /// Reads an address. Whether mail arrives there is not for syntax to say, so this only keeps out what is none.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim().to_lowercase();
        let whole =
            |part: &str| !part.is_empty() && !part.chars().any(|c| c.is_whitespace() || c.is_control());
        let is_address = text.split_once('@').is_some_and(|(local, domain)| {
            let dotted = domain.split('.').count() > 1 && domain.split('.').all(whole);
            whole(local) && dotted && !domain.contains('@')
        });
        match (is_address, text.len() <= LONGEST_EMAIL) {
            (true, true) => Ok(Self(text)),
            (true, false) => Err("is longer than 254 characters"),
            (false, _) => Err("is not an e-mail address such as name@example.com"),
        }
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Fields that cannot be accepted.
#[derive(Debug, thiserror::Error)]
#[error("{} fields cannot be accepted", .0.len())]
pub struct Invalid(pub Vec<FieldError>);

/// What a new user sends.
#[derive(Debug, Deserialize)]
pub struct Registration {
    /// E-mail address.
    pub email: String,
    /// Password in clear text.
    pub password: Password,
    /// Name.
    pub name: String,
}

/// A password in clear text, never shown.
#[derive(Deserialize)]
#[serde(from = "String")]
pub struct Password(Secret<String>);

impl From<String> for Password {
    fn from(text: String) -> Self {
        Self(Secret(text))
    }
}

impl From<&str> for Password {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A registration that can be accepted.
pub struct Registered {
    /// E-mail address.
    pub email: Email,
    /// Password in clear text.
    pub password: String,
    /// Name.
    pub name: String,
}

/// What a user changes; what is not given stays.
#[derive(Debug, Default, Deserialize)]
pub struct Change {
    /// New e-mail address.
    pub email: Option<String>,
    /// New password in clear text.
    pub password: Option<Password>,
    /// New name.
    pub name: Option<String>,
}

/// A change that can be accepted.
pub struct Changed {
    /// New e-mail address.
    pub email: Option<Email>,
    /// New password in clear text.
    pub password: Option<String>,
    /// New name.
    pub name: Option<String>,
}

impl Registration {
    /// Checks all fields and reports all that are wrong.
    pub fn validate(self) -> Result<Registered, Invalid> {
        let change = Change { email: Some(self.email), password: Some(self.password), name: Some(self.name) };
        let Changed { email, password, name } = change.validate()?;
        match (email, password, name) {
            (Some(email), Some(password), Some(name)) => Ok(Registered { email, password, name }),
            _ => Err(Invalid(Vec::new())),
        }
    }
}

impl Change {
    /// Checks the given fields and reports all that are wrong.
    pub fn validate(self) -> Result<Changed, Invalid> {
        let mut wrong = Vec::new();
        let mut field = |name: &str, message: &'static str| wrong.push(FieldError::new(name, message));
        let email =
            self.email.and_then(|text| Email::parse(&text).map_err(|message| field("email", message)).ok());
        let password = self.password.map(|Password(Secret(text))| text);
        if let Some(length) = password.as_ref().map(|text| text.chars().count()) {
            if length < SHORTEST_PASSWORD {
                field("password", "needs at least 8 characters");
            }
            if length > LONGEST_PASSWORD {
                field("password", "is longer than 128 characters");
            }
        }
        let name = self.name.map(|text| text.trim().to_owned());
        if name.as_ref().is_some_and(|text| text.is_empty() || text.chars().any(char::is_control)) {
            field("name", "needs at least one character, and none that cannot be shown");
        }
        if name.as_ref().is_some_and(|text| text.chars().count() > LONGEST_NAME) {
            field("name", "is longer than 100 characters");
        }
        if wrong.is_empty() { Ok(Changed { email, password, name }) } else { Err(Invalid(wrong)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_are_addresses() {
        let long = format!("{}@example.com", "a".repeat(250));
        for (text, expect) in [
            (" Ann@Example.COM ", Some("ann@example.com")),
            ("a.b+c@mail.example.org", Some("a.b+c@mail.example.org")),
            ("ann", None),
            ("@example.com", None),
            ("ann@", None),
            ("ann@example", None),
            ("ann@.com", None),
            ("a@b@c.de", None),
            ("an n@example.com", None),
            ("ann@exa\nmple.com", None),
            (&long, None),
        ] {
            assert_eq!(Email::parse(text).ok().as_ref().map(Email::as_str), expect, "{text}");
        }
    }

    #[test]
    fn every_wrong_field_is_named() {
        let input = Registration { email: "x".into(), password: "short".into(), name: "  ".into() };
        assert!(!format!("{input:?}").contains("short"));
        let Err(Invalid(fields)) = input.validate() else { panic!("accepted") };
        assert_eq!(
            fields.iter().map(|f| f.field.as_str()).collect::<Vec<_>>(),
            ["email", "password", "name"]
        );
    }

    #[test]
    fn a_change_may_be_empty_but_not_wrong() {
        assert!(Change::default().validate().is_ok());
        let long = Change { password: Some("p".repeat(129).into()), ..Change::default() };
        assert!(long.validate().is_err());
    }
}
