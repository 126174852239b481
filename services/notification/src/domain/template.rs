//! From an event to words: a template for each type of event, whose first line is the subject and whose rest, after a
//! blank line, is the text.
//!
//! A field that a template needs and the event lacks is an error, never an empty place in a mail.

use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value, context, value::Serde};
use serde_json::Value as Json;

macro_rules! templates {
    ($($event:literal),+ $(,)?) => {
        /// The events that users are told of.
        pub const EVENTS: &[&str] = &[$($event),+];
        const SOURCES: &[(&str, &str)] = &[$(($event, include_str!(concat!("../../templates/", $event, ".txt")))),+];
    };
}

templates!(
    "order.created",
    "order.paid",
    "order.cancelled",
    "payment.captured",
    "payment.declined",
    "payment.refunded",
    "ticket.purchased",
    "ticket.cancelled",
    "ticket.expired",
);

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// One line.
    pub subject: String,
    /// The rest.
    pub text: String,
}

/// Why there are no words for an event.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// Nobody is told of such events.
    #[error("there is no template for events of this type")]
    Unknown,
    /// The event has not what its template needs.
    #[error("the template cannot be filled in: {0}")]
    Filling(#[source] Error),
}

/// The templates of all events.
pub struct Templates {
    environment: Environment<'static>,
}

impl Templates {
    /// Reads them.
    pub fn new() -> Result<Self, Error> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_filter("money", money);
        for (event, source) in SOURCES {
            let (subject, text) = source.split_once("\n\n").unwrap_or((source, ""));
            environment.add_template_owned(subject_of(event), subject)?;
            environment.add_template_owned(text_of(event), text)?;
        }
        Ok(Self { environment })
    }

    /// The words for an event, to a user of that name.
    pub fn render(&self, event: &str, data: &Json, name: &str) -> Result<Words, TemplateError> {
        let context = context! { name, ..Value::from(Serde(data)) };
        let filled = |template: &str| {
            let template = self.environment.get_template(template).map_err(|_| TemplateError::Unknown)?;
            template.render(&context).map_err(TemplateError::Filling)
        };
        let (subject, text) = (filled(&subject_of(event))?, filled(&text_of(event))?);
        // What users and organisers typed stays in its line: a subject is a header.
        Ok(Words { subject: subject.replace(char::is_control, " "), text })
    }
}

fn subject_of(event: &str) -> String {
    format!("{event}/subject")
}

fn text_of(event: &str) -> String {
    format!("{event}/text")
}

/// Minor units with their currency: `1999 | money("EUR")` is `19.99 EUR`.
fn money(minor: i64, currency: &str) -> Result<String, Error> {
    let digits = match currency {
        "JPY" | "KRW" => 0,
        code if code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase()) => 2,
        _ => return Err(Error::new(ErrorKind::InvalidOperation, "not a currency")),
    };
    let sign = if minor < 0 { "-" } else { "" };
    let (unit, minor) = (10_u64.pow(digits), minor.unsigned_abs());
    Ok(match digits {
        0 => format!("{sign}{minor} {currency}"),
        _ => format!("{sign}{}.{:02} {currency}", minor / unit, minor % unit),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Has every field that any template needs.
    fn data() -> Json {
        json!({
            "id": "o1", "order_id": "o1", "payment_id": "p1", "ticket_id": "t1", "reference": "order/o1",
            "event_name": "The Concert", "total": 5998, "amount": 5998, "price": 2999, "currency": "EUR",
            "items": [{"name": "Lamp", "quantity": 2, "price": 2999}],
        })
    }

    fn rendered(event: &str, data: &Json) -> Words {
        Templates::new().unwrap().render(event, data, "Ann").unwrap()
    }

    #[test]
    fn every_event_has_words() {
        for event in EVENTS {
            let words = rendered(event, &data());
            assert!(words.text.starts_with("Hello Ann,\n\n"), "{event}: {words:?}");
            assert!(!words.subject.is_empty() && !words.text.contains('{'), "{event}: {words:?}");
        }
    }

    #[test]
    fn an_order_is_listed_and_added_up() {
        let words = rendered("order.created", &data());
        assert_eq!(words.subject, "We have your order of 59.98 EUR");
        assert!(words.text.contains("\n2 x Lamp, 29.99 EUR each\n\nTotal: 59.98 EUR\n"), "{}", words.text);
    }

    #[test]
    fn a_reason_is_told_when_there_is_one() {
        let mut data = data();
        assert!(!rendered("payment.declined", &data).text.contains("Reason"));
        data["reason"] = json!("card expired");
        assert!(rendered("payment.declined", &data).text.contains("\nReason: card expired\n"));
    }

    #[test]
    fn what_is_missing_or_of_the_wrong_kind_is_an_error() {
        let templates = Templates::new().unwrap();
        for event in EVENTS {
            assert!(templates.render(event, &json!({}), "Ann").is_err(), "{event}");
            assert!(templates.render(event, &json!("text"), "Ann").is_err(), "{event}");
        }
        for (field, value) in [
            ("total", json!("5998")),
            ("total", json!(59.98)),
            ("currency", json!("euro")),
            ("items", json!(3)),
        ] {
            let mut data = data();
            data[field] = value;
            let failed = templates.render("order.created", &data, "Ann");
            assert!(matches!(failed, Err(TemplateError::Filling(_))), "{data}: {failed:?}");
        }
        assert!(matches!(templates.render("order.lost", &data(), "Ann"), Err(TemplateError::Unknown)));
    }

    #[test]
    fn what_users_typed_can_neither_break_a_header_nor_run() {
        let mut data = data();
        data["event_name"] = json!("Concert\r\nBcc: all@example.com\n\n{{ name }}");
        let words = rendered("ticket.purchased", &data);
        assert!(!words.subject.contains(['\r', '\n']), "{words:?}");
        assert!(words.text.contains("{{ name }}"), "{words:?}");
    }

    #[test]
    fn money_is_written_in_its_currency() {
        for (minor, currency, expect) in [
            (1999, "EUR", "19.99 EUR"),
            (5, "USD", "0.05 USD"),
            (-100, "EUR", "-1.00 EUR"),
            (500, "JPY", "500 JPY"),
            (i64::MIN, "EUR", "-92233720368547758.08 EUR"),
        ] {
            assert_eq!(money(minor, currency).unwrap(), expect);
        }
    }
}
