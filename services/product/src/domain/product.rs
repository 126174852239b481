//! What a product is, which input can become one, and what a change of stock is. Pure: no IO, no clock.

use serde::{Deserialize, Serialize};
use shop_kit::errors::FieldError;
use time::OffsetDateTime;
use uuid::Uuid;

const LONGEST_NAME: usize = 200;
const LONGEST_DESCRIPTION: usize = 5000;
const LONGEST_OPERATION: usize = 200;
/// Ten billion units of a currency with two decimals: sums of many stay far from the end of an i64.
const HIGHEST_PRICE: i64 = 1_000_000_000_000;
const LARGEST_STOCK: i64 = 1_000_000_000;

/// A product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow)]
pub struct Product {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// What it is.
    pub description: String,
    /// Its price in minor units of the currency.
    pub price: i64,
    /// ISO 4217.
    pub currency: String,
    /// How many there are.
    pub stock: i64,
    /// When it was last changed.
    #[serde(with = "time::serde::rfc3339")]
    pub updated: OffsetDateTime,
}

/// Fields that cannot be accepted.
#[derive(Debug, thiserror::Error)]
#[error("{} fields cannot be accepted", .0.len())]
pub struct Invalid(pub Vec<FieldError>);

/// What is sent to add a product.
#[derive(Clone, Debug, Deserialize)]
pub struct NewProduct {
    /// Its name.
    pub name: String,
    /// What it is.
    #[serde(default)]
    pub description: String,
    /// Its price in minor units of the currency.
    pub price: i64,
    /// ISO 4217.
    pub currency: String,
    /// How many there are.
    #[serde(default)]
    pub stock: i64,
}

impl NewProduct {
    /// Checks all fields and reports all that are wrong.
    pub fn validate(self, id: Uuid, now: OffsetDateTime) -> Result<Product, Invalid> {
        let name = self.name.trim().to_owned();
        let is_code = self.currency.len() == 3 && self.currency.bytes().all(|b| b.is_ascii_uppercase());
        let checks = [
            (!name.is_empty() && name.chars().count() <= LONGEST_NAME, "name", "needs 1 to 200 characters"),
            (
                self.description.chars().count() <= LONGEST_DESCRIPTION,
                "description",
                "is longer than 5000 characters",
            ),
            (!self.description.contains('\0') && !name.contains('\0'), "name", "holds a character NUL"),
            ((0..=HIGHEST_PRICE).contains(&self.price), "price", "is 0 to 1000000000000 minor units"),
            (is_code, "currency", "is a code of ISO 4217 such as EUR"),
            ((0..=LARGEST_STOCK).contains(&self.stock), "stock", "is 0 to 1000000000"),
        ];
        let wrong = checks.iter().filter(|(holds, ..)| !holds);
        let wrong: Vec<_> = wrong.map(|(_, field, message)| FieldError::new(*field, *message)).collect();
        if !wrong.is_empty() {
            return Err(Invalid(wrong));
        }
        Ok(Product {
            id,
            name,
            description: self.description,
            price: self.price,
            currency: self.currency,
            stock: self.stock,
            updated: now,
        })
    }
}

/// What is to be done to a stock.
#[derive(Clone, Debug)]
pub struct StockChange {
    /// Whose stock.
    pub product_id: Uuid,
    /// By how much.
    pub delta: i64,
    /// The name of the change: one of that name is made once.
    pub operation: Option<String>,
    /// Take the change of that name back, or keep it from being made.
    pub revoke: bool,
}

impl StockChange {
    /// Checks the change.
    pub fn validate(self) -> Result<Self, Invalid> {
        let reject = |field: &str, message: &str| Err(Invalid(vec![FieldError::new(field, message)]));
        if !(-LARGEST_STOCK..=LARGEST_STOCK).contains(&self.delta) || self.delta == 0 {
            return reject("delta", "is a number other than 0, from -1000000000 to 1000000000");
        }
        match &self.operation {
            None if self.revoke => reject("operation_id", "is needed to revoke"),
            Some(id) if id.is_empty() || id.len() > LONGEST_OPERATION || id.chars().any(char::is_control) => {
                reject("operation_id", "needs 1 to 200 characters that can be shown")
            }
            _ => Ok(self),
        }
    }
}

/// A few products to begin with. Their ids are fixed, so that a tour can name them.
pub fn seeds(now: OffsetDateTime) -> Vec<Product> {
    type Row = (&'static str, &'static str, i64, i64);
    let rows: [Row; 8] = [
        ("Espresso machine", "Two boilers, one lever, steam in a minute.", 64_900, 25),
        ("Coffee grinder", "Steel burrs, forty steps, hardly a sound.", 18_900, 40),
        ("Coffee beans, 1 kg", "Washed Arabica from Sidamo, roasted on Tuesdays.", 2_490, 500),
        ("Cup and saucer", "Porcelain, 90 ml, keeps the crema.", 1_250, 300),
        ("Milk jug", "Stainless steel with a spout that draws.", 2_190, 120),
        ("Tea kettle", "Holds any temperature from 40 to 100 degrees.", 8_990, 60),
        ("Green tea, 100 g", "Sencha of the first harvest.", 1_690, 200),
        ("Golden spoon", "There is only one.", 99_900, 1),
    ];
    let product = |(i, (name, description, price, stock)): (u128, Row)| Product {
        id: Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0000 + i),
        name: name.to_owned(),
        description: description.to_owned(),
        price,
        currency: "EUR".to_owned(),
        stock,
        updated: now,
    };
    (1..).zip(rows).map(product).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lamp() -> NewProduct {
        NewProduct {
            name: "Lamp".into(),
            description: String::new(),
            price: 100,
            currency: "EUR".into(),
            stock: 1,
        }
    }

    #[test]
    fn every_wrong_field_is_named() {
        let long = "x".repeat(201);
        for (input, expect) in [
            (lamp(), &[][..]),
            (NewProduct { price: 0, stock: 0, ..lamp() }, &[]),
            (NewProduct { name: " ".into(), price: -1, ..lamp() }, &["name", "price"]),
            (NewProduct { name: long, ..lamp() }, &["name"]),
            (NewProduct { price: HIGHEST_PRICE + 1, ..lamp() }, &["price"]),
            (NewProduct { currency: "eur".into(), stock: -1, ..lamp() }, &["currency", "stock"]),
            (NewProduct { currency: "€".into(), ..lamp() }, &["currency"]),
        ] {
            let result = input.clone().validate(Uuid::nil(), OffsetDateTime::UNIX_EPOCH);
            let fields: Vec<_> = result.err().map(|Invalid(fields)| fields).unwrap_or_default();
            assert_eq!(fields.iter().map(|f| f.field.as_str()).collect::<Vec<_>>(), expect, "{input:?}");
        }
    }

    #[test]
    fn a_change_of_stock_has_a_size_and_a_revocation_a_name() {
        let change = StockChange { product_id: Uuid::nil(), delta: -1, operation: None, revoke: false };
        assert!(change.clone().validate().is_ok());
        assert!(StockChange { delta: 0, ..change.clone() }.validate().is_err());
        assert!(StockChange { delta: i64::MIN, ..change.clone() }.validate().is_err());
        assert!(StockChange { revoke: true, ..change.clone() }.validate().is_err());
        assert!(StockChange { operation: Some(String::new()), ..change }.validate().is_err());
    }

    #[test]
    fn all_seeds_are_products_that_could_be_added() {
        for seed in seeds(OffsetDateTime::UNIX_EPOCH) {
            let Product { id, name, description, price, currency, stock, updated } = seed.clone();
            let again =
                NewProduct { name, description, price, currency, stock }.validate(id, updated).unwrap();
            assert_eq!(again, seed);
        }
    }
}
