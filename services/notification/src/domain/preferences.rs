//! How a user wants to be told: by which channels, and where those end.

use serde::{Deserialize, Serialize};
use shop_kit::errors::FieldError;

use super::message::Means;

const LONGEST_DEVICE: usize = 200;

/// How a user wants to be told. A phone number or a device switches its channel on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preferences {
    /// To the address of their account.
    pub email: bool,
    /// A phone number, as `+4915112345678`.
    #[serde(default)]
    pub phone: Option<String>,
    /// What the app on their device calls itself.
    #[serde(default)]
    pub device: Option<String>,
}

impl Default for Preferences {
    fn default() -> Self {
        Self { email: true, phone: None, device: None }
    }
}

impl Preferences {
    /// What cannot be accepted of them.
    pub fn problems(&self) -> Vec<FieldError> {
        let mut found = Vec::new();
        if self.phone.as_deref().is_some_and(|phone| !is_phone(phone)) {
            found.push(FieldError::new("phone", "is a plus and 7 to 15 digits, as in +4915112345678"));
        }
        if self.device.as_deref().is_some_and(|device| !is_device(device)) {
            let message = format!("is 1 to {LONGEST_DEVICE} letters, digits or any of - _ . :");
            found.push(FieldError::new("device", message));
        }
        found
    }

    /// Where a user of that address is told.
    pub fn recipients(self, address: &str) -> impl Iterator<Item = (Means, String)> {
        let email = self.email.then(|| (Means::Email, address.to_owned()));
        let sms = self.phone.map(|phone| (Means::Sms, phone));
        let push = self.device.map(|device| (Means::Push, device));
        [email, sms, push].into_iter().flatten()
    }
}

/// E.164, with its plus.
fn is_phone(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len())
            && !digits.starts_with('0')
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn is_device(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    (1..=LONGEST_DEVICE).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(phone: Option<&str>, device: Option<&str>, expect: &[&str]) {
        let own = |text: Option<&str>| text.map(str::to_owned);
        let problems = Preferences { email: true, phone: own(phone), device: own(device) }.problems();
        let fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
        assert_eq!(fields, expect, "{phone:?} {device:?}");
    }

    #[test]
    fn numbers_and_devices_are_checked() {
        check(None, None, &[]);
        check(Some("+4915112345678"), Some("a:b-1_c.d"), &[]);
        for phone in ["", "+", "4915112345678", "+0915112345678", "+49 151", "+1234567890123456", "+12345６7"]
        {
            check(Some(phone), None, &["phone"]);
        }
        for device in ["", "a b", "a\r\nb", "é", &"x".repeat(201)] {
            check(None, Some(device), &["device"]);
        }
        check(Some("x"), Some(""), &["phone", "device"]);
    }

    #[test]
    fn a_user_is_told_by_mail_unless_they_say_otherwise() {
        let told = |preferences: Preferences| preferences.recipients("ann@example.com").collect::<Vec<_>>();
        assert_eq!(told(Preferences::default()), [(Means::Email, "ann@example.com".to_owned())]);
        let preferences =
            Preferences { email: false, phone: Some("+491511234".into()), device: Some("d".into()) };
        assert_eq!(told(preferences), [(Means::Sms, "+491511234".to_owned()), (Means::Push, "d".to_owned())]);
    }
}
