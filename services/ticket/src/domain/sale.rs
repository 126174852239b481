//! An event and the sale of its tickets: what it is, how it is asked for, when it is open. Pure: no IO, no clock.
//!
//! To users it is an event; in the code a sale, since the kit calls messages events. Once made it never changes, so
//! instances keep what they have read of it.

use serde::{Deserialize, Serialize};
use shop_kit::errors::FieldError;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::{Error, Invalid};

const LONGEST_NAME: usize = 200;
const HIGHEST_PRICE: i64 = 1_000_000_000;
const LARGEST_CAPACITY: i64 = 1_000_000;
const LARGEST_LIMIT: i64 = 100;
const FASTEST_ADMISSION: i64 = 100_000;

/// Who keeps count of the seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// The event's row in PostgreSQL, locked by one customer after the other.
    Postgres,
    /// A script in Redis; PostgreSQL learns of it a moment later.
    Redis,
}

impl Strategy {
    /// The strategy as tables and metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Strategy::Postgres => "postgres",
            Strategy::Redis => "redis",
        }
    }

    /// The strategy of that spelling.
    pub fn parse(text: &str) -> Option<Self> {
        [Strategy::Postgres, Strategy::Redis].into_iter().find(|strategy| strategy.as_str() == text)
    }
}

/// An event whose tickets are sold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sale {
    /// Its id.
    pub id: Uuid,
    /// Its number, with which the ids of its tickets begin.
    #[serde(skip)]
    pub number: i32,
    /// What it is.
    pub name: String,
    /// Where it is.
    pub venue: String,
    /// When it begins.
    #[serde(with = "time::serde::rfc3339")]
    pub starts: OffsetDateTime,
    /// What a seat costs, in minor units.
    pub price: i64,
    /// ISO 4217.
    pub currency: String,
    /// How many seats there are.
    pub capacity: i32,
    /// Seats that one customer may have.
    pub per_user_limit: i32,
    /// When the sale opens.
    #[serde(with = "time::serde::rfc3339")]
    pub opens: OffsetDateTime,
    /// When it ends.
    #[serde(with = "time::serde::rfc3339")]
    pub closes: OffsetDateTime,
    /// Who keeps count.
    pub strategy: Strategy,
    /// Customers let in per second; without it everybody is let in at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admission_rate: Option<i32>,
}

impl Sale {
    /// Passes while the sale is open.
    pub fn check_open(&self, now: OffsetDateTime) -> Result<(), Error> {
        if now < self.opens {
            Err(Error::NotOpen(self.opens))
        } else if now < self.closes {
            Ok(())
        } else {
            Err(Error::Closed)
        }
    }

    /// What so many seats cost. The bounds of price and quantity keep it far from the end of an `i64`.
    pub fn total(&self, quantity: i32) -> i64 {
        self.price.saturating_mul(i64::from(quantity))
    }
}

/// What an event should be.
#[derive(Clone, Debug, Deserialize)]
pub struct NewSale {
    name: String,
    venue: String,
    #[serde(with = "time::serde::rfc3339")]
    starts: OffsetDateTime,
    price: i64,
    currency: String,
    capacity: i64,
    #[serde(default = "usual_limit")]
    per_user_limit: i64,
    #[serde(with = "time::serde::rfc3339")]
    opens: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    closes: OffsetDateTime,
    #[serde(default = "usual_strategy")]
    strategy: Strategy,
    admission_rate: Option<i64>,
}

fn usual_limit() -> i64 {
    4
}

fn usual_strategy() -> Strategy {
    Strategy::Redis
}

impl NewSale {
    /// Checks all fields. The number is the store's to give.
    pub fn validate(self, id: Uuid) -> Result<Sale, Invalid> {
        let (name, venue) = (self.name.trim().to_owned(), self.venue.trim().to_owned());
        let shown = |text: &str| {
            !text.is_empty() && text.chars().count() <= LONGEST_NAME && !text.chars().any(char::is_control)
        };
        let is_code = self.currency.len() == 3 && self.currency.bytes().all(|b| b.is_ascii_uppercase());
        let rate = self.admission_rate.unwrap_or(1);
        let checks = [
            (shown(&name), "name", "needs 1 to 200 characters that can be shown"),
            (shown(&venue), "venue", "needs 1 to 200 characters that can be shown"),
            ((1..=HIGHEST_PRICE).contains(&self.price), "price", "is 1 to 1000000000 minor units"),
            (is_code, "currency", "is a code of ISO 4217 such as EUR"),
            ((1..=LARGEST_CAPACITY).contains(&self.capacity), "capacity", "is 1 to 1000000"),
            ((1..=LARGEST_LIMIT).contains(&self.per_user_limit), "per_user_limit", "is 1 to 100"),
            (self.opens < self.closes, "closes", "is after opens"),
            ((1..=FASTEST_ADMISSION).contains(&rate), "admission_rate", "is 1 to 100000 a second"),
        ];
        let wrong = checks.iter().filter(|(holds, ..)| !holds);
        let wrong: Vec<_> = wrong.map(|(_, field, message)| FieldError::new(*field, *message)).collect();
        if !wrong.is_empty() {
            return Err(Invalid(wrong));
        }
        // The checks above bound them.
        let small = |value: i64| i32::try_from(value).unwrap_or(i32::MAX);
        Ok(Sale {
            id,
            number: 0,
            name,
            venue,
            starts: micros(self.starts),
            price: self.price,
            currency: self.currency,
            capacity: small(self.capacity),
            per_user_limit: small(self.per_user_limit),
            opens: micros(self.opens),
            closes: micros(self.closes),
            strategy: self.strategy,
            admission_rate: self.admission_rate.map(small),
        })
    }
}

/// To the microsecond and in UTC, which is what PostgreSQL keeps.
fn micros(time: OffsetDateTime) -> OffsetDateTime {
    let time = time.to_offset(time::UtcOffset::UTC);
    time.replace_nanosecond(time.microsecond() * 1000).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn concert() -> Value {
        json!({
            "name": "Concert", "venue": "Town hall", "starts": "2030-01-02T20:00:00Z", "price": 4500,
            "currency": "EUR", "capacity": 500, "opens": "2030-01-01T10:00:00Z", "closes": "2030-01-02T20:00:00Z",
        })
    }

    fn with(field: &str, value: Value) -> Value {
        let mut event = concert();
        event[field] = value;
        event
    }

    #[test]
    fn every_wrong_field_is_named() {
        for (input, expect) in [
            (concert(), ""),
            (with("name", json!(" ")), "name"),
            (with("venue", json!("a\0b")), "venue"),
            (with("price", json!(0)), "price"),
            (with("price", json!(-1)), "price"),
            (with("currency", json!("eur")), "currency"),
            (with("capacity", json!(-5)), "capacity"),
            (with("capacity", json!(i64::MAX)), "capacity"),
            (with("per_user_limit", json!(0)), "per_user_limit"),
            (with("closes", json!("2029-01-01T00:00:00Z")), "closes"),
            (with("admission_rate", json!(0)), "admission_rate"),
        ] {
            let new: NewSale = serde_json::from_value(input.clone()).unwrap();
            let fields = new.validate(Uuid::nil()).err().map(|Invalid(fields)| fields).unwrap_or_default();
            let fields: Vec<_> = fields.iter().map(|field| field.field.as_str()).collect();
            assert_eq!(fields.join(","), expect, "{input}");
        }
    }

    #[test]
    fn what_is_no_number_or_strategy_is_not_read() {
        for input in
            [with("strategy", json!("mysql")), with("capacity", json!(1e30)), with("opens", json!(5))]
        {
            assert!(serde_json::from_value::<NewSale>(input.clone()).is_err(), "{input}");
        }
    }

    #[test]
    fn a_sale_is_open_from_its_opening_until_its_end() {
        let new: NewSale = serde_json::from_value(concert()).unwrap();
        let sale = new.validate(Uuid::nil()).unwrap();
        let second = time::Duration::SECOND;
        assert!(matches!(sale.check_open(sale.opens - second), Err(Error::NotOpen(_))));
        assert!(sale.check_open(sale.opens).is_ok());
        assert!(sale.check_open(sale.closes - second).is_ok());
        assert!(matches!(sale.check_open(sale.closes), Err(Error::Closed)));
    }
}
