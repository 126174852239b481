//! What a payment is for: payment asks over the bus, and the service that had it made answers.
//!
//! Payment knows none of those who ask to be paid, and a route to them would lead in a circle: they depend on payment. So
//! the address is made of what stands before the colon in the reference of the payment, and whoever makes references of
//! that kind answers there.

use serde::{Deserialize, Serialize};

use crate::{
    errors::{Kind, Problem},
    events::call::Question,
};

const LONGEST_KIND: usize = 32;

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
pub struct Asked {
    /// What the payment is called by who had it made: `order:UUID`.
    pub reference: String,
}

/// What is answered.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purpose {
    /// What became of the thing that was paid for.
    pub status: String,
    /// What it is, for people: `2 × Lamp`.
    pub items: Vec<String>,
}

/// Where to ask what a payment is for; nothing for a reference that nobody can answer for.
pub fn address(reference: &str) -> Option<String> {
    let (kind, _) = reference.split_once(':')?;
    let plain =
        !kind.is_empty() && kind.len() <= LONGEST_KIND && kind.bytes().all(|b| b.is_ascii_lowercase());
    plain.then(|| format!("{kind}.purpose"))
}

impl Asked {
    /// Reads a question.
    pub fn read(question: Question) -> Result<Self, Problem> {
        let malformed =
            |error: serde_json::Error| Problem::new(Kind::Malformed, "malformed", error.to_string());
        serde_json::from_value(question.data).map_err(malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_kinds_have_an_address() {
        let long = format!("{}:1", "a".repeat(33));
        for (reference, expect) in [
            ("order:1", Some("order.purpose")),
            ("order:a:b", Some("order.purpose")),
            ("order", None),
            (":1", None),
            ("Order:1", None),
            ("a b:1", None),
            ("a{b}:1", None),
            (&long, None),
        ] {
            assert_eq!(address(reference).as_deref(), expect, "{reference}");
        }
    }
}
