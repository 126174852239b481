//! A page of a list: its number, its size, and the shape of the answer. Shared by HTTP and gRPC.

use serde::Serialize;

use crate::errors::{FieldError, Problem};

const DEFAULT_SIZE: u32 = 20;
const LARGEST: u32 = 100;

/// Which part of a list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    number: u32,
    size: u32,
}

impl Page {
    /// The page of that number (from 1) and size (1 to 100); 0 or nothing means the default.
    pub fn new(number: Option<u32>, size: Option<u32>) -> Result<Self, Problem> {
        let or = |value: Option<u32>, default| value.filter(|v| *v > 0).unwrap_or(default);
        let page = Self { number: or(number, 1), size: or(size, DEFAULT_SIZE) };
        if page.size > LARGEST {
            return Err(Problem::invalid(vec![FieldError::new("per_page", format!("is at most {LARGEST}"))]));
        }
        Ok(page)
    }

    /// How many rows to return.
    pub fn limit(self) -> i64 {
        i64::from(self.size)
    }

    /// How many rows to skip.
    pub fn offset(self) -> i64 {
        i64::from(self.number - 1) * i64::from(self.size)
    }

    /// The answer over HTTP.
    pub fn of<T>(self, items: Vec<T>, total: u64) -> Listed<T> {
        Listed { items, page: self.number, per_page: self.size, total }
    }
}

/// One page of a list.
#[derive(Debug, Serialize)]
pub struct Listed<T> {
    items: Vec<T>,
    page: u32,
    per_page: u32,
    total: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_count_from_one_and_are_bounded() {
        for (number, size, expect) in [
            (None, None, Some((0, 20))),
            (Some(0), Some(0), Some((0, 20))),
            (Some(3), Some(10), Some((20, 10))),
            (Some(u32::MAX), Some(100), Some((429_496_729_400, 100))),
            (None, Some(101), None),
        ] {
            let got = Page::new(number, size).ok().map(|page| (page.offset(), page.limit()));
            assert_eq!(got, expect, "{number:?} {size:?}");
        }
    }
}
