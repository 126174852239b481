//! The circuit breaker: one transition whoever brings it about, no more trials than it may, and admission that never
//! disagrees with the state for longer than the transition takes.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;
use weft_api::v1;
use weft_interleave::policy::breaker::{Breaker, State};
use weft_interleave::policy::outcome::Outcome;

use crate::{both, twice};

const OPEN_FOR: Duration = Duration::from_secs(10);
const GOOD: Outcome = Outcome::Status(StatusCode::OK);

fn breaker(consecutive_failures: u32) -> Arc<Breaker> {
    let rules = v1::CircuitBreaker {
        consecutive_failures,
        open_for_ms: 10_000,
        half_open_requests: 1,
        ..Default::default()
    };
    Breaker::new(Some(&rules)).unwrap()
}

/// One that has just opened.
fn opened(now: Instant) -> Arc<Breaker> {
    let breaker = breaker(1);
    breaker.admit(now).unwrap().record(Outcome::Reset, now).unwrap();
    breaker
}

#[test]
fn failures_at_once_open_it_once() {
    let now = Instant::now();
    loom::model(move || {
        let breaker = breaker(2);
        let fail = move |breaker: &Arc<Breaker>| {
            breaker.admit(now).ok().and_then(|permit| permit.record(Outcome::Reset, now)).is_some()
        };
        let (one, other) = twice(&breaker, fail);
        assert!(one ^ other, "one of them opened it");
        assert_eq!(breaker.state(), State::Open);
        assert!(breaker.admit(now).is_err());
    });
}

#[test]
fn one_trial_is_let_through_when_its_time_is_over() {
    let now = Instant::now();
    loom::model(move || {
        let breaker = opened(now);
        let later = now + OPEN_FOR;
        let (one, other) = twice(&breaker, move |breaker| breaker.admit(later).ok());
        assert!(one.is_some() ^ other.is_some(), "one of them is the trial");
        let trial = one.or(other).unwrap();
        assert!(breaker.admit(later).is_err(), "while it is under way");
        assert!(trial.record(GOOD, later).is_some());
        assert_eq!(breaker.state(), State::Closed);
        assert!(breaker.admit(later).is_ok());
    });
}

#[test]
fn a_trial_given_up_gives_its_place_to_the_next() {
    let now = Instant::now();
    loom::model(move || {
        let breaker = opened(now);
        let later = now + OPEN_FOR;
        let try_and_leave = move |breaker: &Arc<Breaker>| drop(breaker.admit(later));
        twice(&breaker, try_and_leave);
        assert!(breaker.admit(later).is_ok(), "nobody is on the way any more");
    });
}

#[test]
fn a_late_outcome_of_an_earlier_state_changes_nothing() {
    let now = Instant::now();
    loom::model(move || {
        let breaker = breaker(1);
        let (first, second) = (breaker.admit(now).unwrap(), breaker.admit(now).unwrap());
        let (opened, closed) = both(move || first.record(Outcome::Reset, now), || second.record(GOOD, now));
        assert!(opened.is_some() && closed.is_none());
        assert_eq!(breaker.state(), State::Open, "a success that was on its way does not close it");
    });
}
