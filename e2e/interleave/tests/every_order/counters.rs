//! Limits and the retry budget: nothing in flight is counted twice or lost, and a limit is neither passed nor reached
//! before its time.

use std::sync::Arc;

use tokio::time::Instant;
use weft_api::v1;
use weft_interleave::policy::limits::Limits;
use weft_interleave::policy::retry::budget::Budget;

use crate::{both, twice};

fn limits(requests: u32) -> Arc<Limits> {
    Arc::new(Limits::new(Some(&v1::Limits { requests, ..Default::default() })))
}

#[test]
fn the_last_place_is_taken_once_and_given_back() {
    loom::model(|| {
        let limits = limits(1);
        let (one, other) = twice(&limits, |limits| limits.request().ok());
        assert!(one.is_some() ^ other.is_some());
        assert_eq!(limits.usage().requests, 1);
        drop((one, other));
        assert_eq!(limits.usage().requests, 0);
    });
}

#[test]
fn whoever_is_refused_keeps_nobody_else_out() {
    loom::model(|| {
        let limits = limits(1);
        let held = limits.request().unwrap();
        let with = Arc::clone(&limits);
        let (one, other) = both(
            move || with.request().ok(),
            || {
                drop(held);
                limits.request().ok()
            },
        );
        assert!(one.is_some() || other.is_some(), "the place is free, and nobody has it");
    });
}

#[test]
fn no_request_and_no_retry_goes_uncounted() {
    let now = Instant::now();
    loom::model(move || {
        let config = v1::Retries { budget_percent: 100, budget_min_per_second: 0, ..Default::default() };
        let budget = Arc::new(Budget::new(Some(&config), now));
        twice(&budget, move |budget| budget.request(now));
        // As many retries as requests: both were counted.
        assert!(budget.retry(now) && budget.retry(now));
        assert!(!budget.retry(now));
    });
}

#[test]
fn retries_at_once_pass_the_budget_by_no_more_than_their_threads() {
    let now = Instant::now();
    loom::model(move || {
        let config = v1::Retries { budget_percent: 100, budget_min_per_second: 0, ..Default::default() };
        let budget = Arc::new(Budget::new(Some(&config), now));
        budget.request(now);
        let (one, other) = twice(&budget, move |budget| budget.retry(now));
        assert!(one || other, "the one there is is given to somebody");
        assert!(!budget.retry(now), "and none after that");
    });
}
