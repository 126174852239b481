//! The three rules in use, the borders of time, and a model that the breaker must agree with.

use std::collections::VecDeque;

use http::StatusCode;
use proptest::prelude::*;

use super::*;

const OK: Outcome = Outcome::Status(StatusCode::OK);
const FAILED: Outcome = Outcome::Status(StatusCode::INTERNAL_SERVER_ERROR);
const OPENED: Option<Transition> = Some(Transition { from: State::Closed, to: State::Open });
const OPEN_FOR: Duration = Duration::from_mins(1);

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn consecutive(failures: u32) -> v1::CircuitBreaker {
    v1::CircuitBreaker {
        consecutive_failures: failures,
        open_for_ms: 60_000,
        half_open_requests: 3,
        ..Default::default()
    }
}

fn ratio() -> v1::CircuitBreaker {
    v1::CircuitBreaker { failure_ratio: 0.6, min_requests: 3, window_ms: 10_000, ..consecutive(0) }
}

fn breaker(config: v1::CircuitBreaker) -> Arc<Breaker> {
    Breaker::new(Some(&config)).unwrap()
}

/// Sends one request that ends this way.
fn send(breaker: &Arc<Breaker>, outcome: Outcome, now: Instant) -> Option<Transition> {
    breaker.admit(now).expect("it is admitted").record(outcome, now)
}

fn open(breaker: &Arc<Breaker>, now: Instant) {
    while send(breaker, FAILED, now).is_none() {}
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn five_failures_in_a_row_open_for_sixty_seconds() {
    let (breaker, now) = (breaker(consecutive(5)), Instant::now());
    for _ in 0..4 {
        assert_eq!(send(&breaker, FAILED, now), None);
    }
    assert_eq!(send(&breaker, OK, now), None, "a success starts the count again");
    for _ in 0..4 {
        assert_eq!(send(&breaker, FAILED, now), None);
    }
    assert_eq!(send(&breaker, FAILED, now), OPENED);
    let refused = breaker.admit(now + secs(1)).unwrap_err();
    assert_eq!((refused.reason, refused.retry_after_secs), (Reason::CircuitOpen, Some(59)));
    assert!(breaker.admit(now + OPEN_FOR - Duration::from_millis(1)).is_err());
    assert!(breaker.admit(now + OPEN_FOR).is_ok());
}

#[test]
fn more_than_five_in_a_row_is_six() {
    let (breaker, now) = (breaker(consecutive(6)), Instant::now());
    for _ in 0..5 {
        assert_eq!(send(&breaker, FAILED, now), None);
    }
    assert_eq!(send(&breaker, FAILED, now), OPENED);
}

#[test]
fn six_tenths_of_at_least_three_requests_in_ten_seconds_open() {
    let start = Instant::now();
    let check = |outcomes: &[(u64, Outcome)]| {
        let breaker = breaker(ratio());
        outcomes.iter().fold(None, |_, (at, outcome)| send(&breaker, *outcome, start + secs(*at)))
    };
    assert_eq!(check(&[(0, FAILED), (0, FAILED)]), None, "two are too few");
    assert_eq!(check(&[(0, OK), (0, FAILED), (0, FAILED)]), OPENED, "2 of 3");
    assert_eq!(check(&[(0, OK), (0, OK), (0, FAILED)]), None, "1 of 3");
    assert_eq!(
        check(&[(0, OK), (0, OK), (0, FAILED), (0, FAILED), (0, FAILED)]),
        OPENED,
        "3 of 5 is exactly 0.6"
    );
    assert_eq!(check(&[(0, OK), (0, FAILED), (0, OK), (0, FAILED)]), None, "2 of 4");
    assert_eq!(check(&[(0, OK), (5, FAILED), (9, FAILED)]), OPENED);
    assert_eq!(check(&[(0, FAILED), (5, FAILED), (10, FAILED)]), None, "the first is out of the window");
    assert_eq!(
        check(&[(0, OK), (0, OK), (9, FAILED), (10, FAILED), (10, FAILED)]),
        OPENED,
        "so are the successes"
    );
}

#[test]
fn both_rules_may_be_on() {
    let both = || breaker(v1::CircuitBreaker { consecutive_failures: 5, ..ratio() });
    let now = Instant::now();
    let by_ratio = both();
    assert_eq!([OK, FAILED, FAILED].map(|o| send(&by_ratio, o, now)), [None, None, OPENED]);
    let by_count = both();
    assert!((0..100).all(|_| send(&by_count, OK, now).is_none()));
    assert_eq!([FAILED; 5].map(|o| send(&by_count, o, now)), [None, None, None, None, OPENED]);
}

#[test]
fn half_open_lets_three_through_and_closes_after_three_successes() {
    let (breaker, now) = (breaker(ratio()), Instant::now());
    open(&breaker, now);
    let later = now + OPEN_FOR;
    let first = breaker.admit(later).unwrap();
    assert_eq!(first.transition(), Some(Transition { from: State::Open, to: State::HalfOpen }));
    let second = breaker.admit(later).unwrap();
    let third = breaker.admit(later).unwrap();
    assert_eq!((second.transition(), breaker.admit(later).unwrap_err().reason), (None, Reason::CircuitOpen));
    assert_eq!(first.record(OK, later), None);
    assert!(breaker.admit(later).is_err(), "three are enough");
    assert_eq!(second.record(OK, later), None);
    assert_eq!(breaker.snapshot(later).successes, 2);
    assert_eq!(third.record(OK, later), Some(Transition { from: State::HalfOpen, to: State::Closed }));
    let snapshot = breaker.snapshot(later);
    assert_eq!((snapshot.state, snapshot.failures, snapshot.window_requests), (State::Closed, 0, 0));
}

#[test]
fn one_failure_while_half_open_opens_for_the_whole_time_again() {
    let (breaker, now) = (breaker(consecutive(5)), Instant::now());
    open(&breaker, now);
    let later = now + OPEN_FOR;
    let (good, bad, late) =
        (breaker.admit(later).unwrap(), breaker.admit(later).unwrap(), breaker.admit(later).unwrap());
    assert_eq!(good.record(OK, later), None);
    assert_eq!(bad.record(FAILED, later), Some(Transition { from: State::HalfOpen, to: State::Open }));
    assert_eq!(late.record(OK, later), None, "its time is over");
    assert!(breaker.admit(later + OPEN_FOR - secs(1)).is_err());
    let (again, _second) =
        (breaker.admit(later + OPEN_FOR).unwrap(), breaker.admit(later + OPEN_FOR).unwrap());
    assert!(again.transition().is_some());
    assert!(breaker.admit(later + OPEN_FOR).is_ok(), "three trials again, earlier successes are forgotten");
}

#[test]
fn a_trial_that_is_given_up_or_says_nothing_gives_its_place_back() {
    let (breaker, now) = (breaker(consecutive(1)), Instant::now());
    open(&breaker, now);
    let later = now + OPEN_FOR;
    let trials: Vec<_> = (0..3).map(|_| breaker.admit(later).unwrap()).collect();
    assert!(breaker.admit(later).is_err());
    drop(trials);
    let trials: Vec<_> = (0..3).map(|_| breaker.admit(later).unwrap()).collect();
    assert!(trials.into_iter().all(|trial| trial.record(Outcome::Overflow, later).is_none()));
    assert_eq!(breaker.snapshot(later).successes, 0);
    for _ in 0..3 {
        send(&breaker, OK, later);
    }
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn a_given_up_request_of_before_takes_no_trial_away() {
    let (breaker, now) = (breaker(consecutive(1)), Instant::now());
    let old = breaker.admit(now).unwrap();
    let older = breaker.admit(now).unwrap();
    open(&breaker, now);
    let later = now + OPEN_FOR;
    let _trials: Vec<_> = (0..3).map(|_| breaker.admit(later).unwrap()).collect();
    drop(old);
    assert_eq!(older.record(FAILED, later), None, "the answer is about the time before");
    assert!(breaker.admit(later).is_err());
    assert_eq!(breaker.state(), State::HalfOpen);
}

#[test]
fn overflow_never_opens() {
    let (breaker, now) = (breaker(v1::CircuitBreaker { consecutive_failures: 1, ..ratio() }), Instant::now());
    assert!((0..100).all(|_| send(&breaker, Outcome::Overflow, now).is_none()));
}

#[test]
fn its_state_can_be_read_and_reset() {
    let (breaker, now) = (breaker(consecutive(5)), Instant::now());
    open(&breaker, now);
    let expect = Snapshot {
        state: State::Open,
        failures: 5,
        successes: 0,
        threshold: 5,
        window_requests: 0,
        window_failures: 0,
        open_for: OPEN_FOR,
        remaining: Some(secs(50)),
    };
    assert_eq!(breaker.snapshot(now + secs(10)), expect);
    assert_eq!(breaker.reset(), Some(Transition { from: State::Open, to: State::Closed }));
    assert_eq!(breaker.reset(), None);
    assert!(breaker.admit(now).is_ok());
}

#[test]
fn a_breaker_without_rules_is_none_and_fits_only_its_own() {
    assert!(Breaker::new(None).is_none());
    assert!(Breaker::new(Some(&consecutive(0))).is_none());
    let breaker = breaker(consecutive(5));
    assert!(breaker.fits(Some(&consecutive(5))));
    assert!(!breaker.fits(Some(&consecutive(6))));
    assert!(!breaker.fits(None));
}

#[test]
fn threads_never_send_more_trials_than_allowed() {
    let (breaker, now) = (breaker(consecutive(1)), Instant::now());
    open(&breaker, now);
    let later = now + OPEN_FOR;
    let admitted: Vec<_> = std::thread::scope(|scope| {
        let ask = || (0..1000).filter_map(|_| breaker.admit(later).ok()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(admitted.len(), 3);
    assert_eq!(admitted.iter().filter(|permit| permit.transition().is_some()).count(), 1);
}

/// What the breaker should do, written without regard to speed.
struct Model {
    state: State,
    epoch: u32,
    opened_ms: u64,
    in_a_row: u32,
    recent: Vec<(u64, bool)>,
    /// When the window began to count; its slots are seconds from there.
    window_from: Option<u64>,
    trials: u32,
    successes: u32,
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Send,
    Finish(usize, Option<Outcome>),
    Reset,
}

impl Model {
    fn turn(&mut self, state: State) {
        self.state = state;
        self.epoch += 1;
        (self.trials, self.successes) = (0, 0);
        if state == State::Closed {
            self.in_a_row = 0;
            self.recent.clear();
            self.window_from = None;
        }
    }

    fn admit(&mut self, at: u64) -> Option<u32> {
        if self.state == State::Open && at >= self.opened_ms + 60_000 {
            self.turn(State::HalfOpen);
        }
        match self.state {
            State::Open => None,
            State::HalfOpen if self.trials + self.successes == 3 => None,
            State::HalfOpen => {
                self.trials += 1;
                Some(self.epoch)
            }
            State::Closed => Some(self.epoch),
        }
    }

    fn finish(&mut self, epoch: u32, health: Health, at: u64) {
        if epoch != self.epoch {
            return;
        }
        if self.state == State::HalfOpen {
            self.trials -= 1;
            match health {
                Health::Good => self.successes += 1,
                Health::Bad => self.open(at),
                Health::Unknown => {}
            }
            if self.successes == 3 {
                self.turn(State::Closed);
            }
            return;
        }
        if health == Health::Unknown {
            return;
        }
        let bad = health == Health::Bad;
        self.in_a_row = if bad { self.in_a_row + 1 } else { 0 };
        let from = *self.window_from.get_or_insert(at);
        let slot = (at - from) / 1000;
        self.recent.push((slot, bad));
        let fresh: Vec<bool> =
            self.recent.iter().filter(|(s, _)| s + 10 > slot).map(|(_, bad)| *bad).collect();
        let failures = fresh.iter().filter(|bad| **bad).count();
        if bad && (self.in_a_row >= 5 || (fresh.len() >= 3 && failures * 10 >= fresh.len() * 6)) {
            self.open(at);
        }
    }

    fn open(&mut self, at: u64) {
        self.opened_ms = at;
        self.turn(State::Open);
    }
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![Just(None), Just(Some(OK)), Just(Some(FAILED)), Just(Some(Outcome::Overflow))];
    prop_oneof![
        3 => prop_oneof![0u64..3_000, Just(60_000)].prop_map(Step::Wait),
        6 => Just(Step::Send),
        6 => (0usize..8, outcome).prop_map(|(which, outcome)| Step::Finish(which, outcome)),
        1 => Just(Step::Reset),
    ]
}

proptest! {
    #[test]
    fn it_does_what_the_model_does(steps in prop::collection::vec(step(), 1..120)) {
        let breaker = breaker(v1::CircuitBreaker { consecutive_failures: 5, ..ratio() });
        let mut model = Model {
            state: State::Closed, epoch: 0, opened_ms: 0, in_a_row: 0, recent: vec![], window_from: None,
            trials: 0, successes: 0,
        };
        let (start, mut at) = (Instant::now(), 0);
        let mut running = VecDeque::new();
        for step in steps {
            let now = start + Duration::from_millis(at);
            match step {
                Step::Wait(ms) => at += ms,
                Step::Send => {
                    let (permit, epoch) = (breaker.admit(now).ok(), model.admit(at));
                    prop_assert_eq!(permit.is_some(), epoch.is_some());
                    running.extend(permit.zip(epoch));
                }
                Step::Finish(which, outcome) => {
                    let Some((permit, epoch)) = running.remove(which) else { continue };
                    model.finish(epoch, outcome.map_or(Health::Unknown, Outcome::health), at);
                    match outcome {
                        Some(outcome) => drop(permit.record(outcome, now)),
                        None => drop(permit),
                    }
                }
                Step::Reset => {
                    breaker.reset();
                    model.turn(State::Closed);
                }
            }
            prop_assert_eq!(breaker.state(), model.state);
        }
    }
}
