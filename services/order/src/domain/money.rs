//! Adding up prices, in minor units, without losing a cent: every step is checked.

use std::collections::BTreeSet;

/// Why prices cannot be added up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// The sum is larger than can be counted.
    #[error("the total is larger than can be counted")]
    TooLarge,
    /// A price is below 0.
    #[error("a price is below 0")]
    Negative,
    /// The products are sold in several currencies.
    #[error("the products are sold in several currencies: {0}")]
    Currencies(String),
}

/// The sum of price times quantity.
pub fn total(lines: impl IntoIterator<Item = (i64, u32)>) -> Result<i64, MoneyError> {
    lines.into_iter().try_fold(0_i64, |sum, (price, quantity)| {
        if price < 0 {
            return Err(MoneyError::Negative);
        }
        let line = price.checked_mul(i64::from(quantity)).ok_or(MoneyError::TooLarge)?;
        sum.checked_add(line).ok_or(MoneyError::TooLarge)
    })
}

/// The one currency of all.
pub fn currency<'a>(all: impl IntoIterator<Item = &'a str>) -> Result<String, MoneyError> {
    let all: BTreeSet<&str> = all.into_iter().collect();
    match all.first() {
        Some(one) if all.len() == 1 => Ok((*one).to_owned()),
        _ => Err(MoneyError::Currencies(all.into_iter().collect::<Vec<_>>().join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_end_of_an_i64_is_refused_not_wrapped() {
        for (lines, expect) in [
            (vec![], Ok(0)),
            (vec![(1999, 3), (1, 2)], Ok(5999)),
            (vec![(i64::MAX, 1)], Ok(i64::MAX)),
            (vec![(i64::MAX, 1), (1, 1)], Err(MoneyError::TooLarge)),
            (vec![(i64::MAX, 2)], Err(MoneyError::TooLarge)),
            (vec![(-1, 1)], Err(MoneyError::Negative)),
        ] {
            assert_eq!(total(lines.clone()), expect, "{lines:?}");
        }
    }

    #[test]
    fn an_order_has_one_currency() {
        assert_eq!(currency(["EUR", "EUR"]), Ok("EUR".to_owned()));
        assert_eq!(currency(["USD", "EUR"]), Err(MoneyError::Currencies("EUR, USD".into())));
    }

    proptest! {
        #[test]
        fn the_total_is_the_exact_sum_or_an_error(lines in prop::collection::vec((any::<i64>(), any::<u32>()), 0..20)) {
            let exact: i128 = lines.iter().map(|(price, quantity)| i128::from(*price) * i128::from(*quantity)).sum();
            match total(lines.iter().copied()) {
                Ok(sum) => prop_assert_eq!(i128::from(sum), exact),
                Err(MoneyError::Negative) => prop_assert!(lines.iter().any(|(price, _)| *price < 0)),
                Err(error) => {
                    prop_assert_eq!(error, MoneyError::TooLarge);
                    let positive: i128 =
                        lines.iter().filter(|(p, _)| *p > 0).map(|(p, q)| i128::from(*p) * i128::from(*q)).sum();
                    prop_assert!(positive > i128::from(i64::MAX));
                }
            }
        }

        #[test]
        fn the_order_of_the_lines_does_not_matter(mut lines in prop::collection::vec((0_i64..1_000_000_000, 1_u32..10_000), 0..20)) {
            let forwards = total(lines.iter().copied());
            lines.reverse();
            prop_assert_eq!(forwards, total(lines));
        }

        #[test]
        fn one_more_never_costs_less(price in 0_i64..1_000_000_000_000, quantity in 0_u32..1_000_000) {
            prop_assert!(total([(price, quantity)])? <= total([(price, quantity + 1)])?);
        }
    }
}
