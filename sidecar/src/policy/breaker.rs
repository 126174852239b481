//! The circuit breaker of one destination: closed, open, half open. Stands on the outbound path before an endpoint is
//! picked, and hears how every attempt ended.
//!
//! Closed, it opens when so many failures came in a row, or when their share in the window is too large; both rules may be
//! on. Open, it refuses everything until its time is over. Half open, it lets as many trial requests through as it needs
//! successes to close; one failure opens it again. A request given up or refused for load counts as nothing and gives
//! its trial back.
//!
//! While closed, admission is one atomic load. Outcomes take a mutex of this destination for a few additions (measured:
//! 9 ns alone, 17 ns with two threads on it; never held across an await): the rules need counters that change together.

mod window;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use weft_api::v1;

use self::window::Window;
use super::outcome::{Health, Outcome};
use crate::reject::{Reason, Reject};
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// A breaker; shared by all workers.
#[derive(Debug)]
pub struct Breaker {
    rules: Rules,
    /// The generation, shifted left by one; the lowest bit is set unless closed. A copy of what is inside, for admission.
    gate: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Rules {
    /// 0: off.
    consecutive_failures: u32,
    /// 0: off.
    failure_ratio: f64,
    min_requests: u32,
    window: Duration,
    open_for: Duration,
    half_open_requests: u32,
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// Goes up with every transition, so that outcomes of an earlier state are told apart.
    generation: u64,
    consecutive: u32,
    window: Window,
    /// When it opened last.
    opened: Option<Instant>,
    /// Trial requests on their way.
    trials: u32,
    /// Trial requests that succeeded.
    successes: u32,
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// Requests pass.
    Closed,
    /// Requests are refused.
    Open,
    /// Some requests pass, to see whether the destination is back.
    HalfOpen,
}

/// A change of state, for log and metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Before.
    pub from: State,
    /// After.
    pub to: State,
}

/// What can be read about a breaker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapshot {
    /// Where it stands.
    pub state: State,
    /// Failures in a row; while open, those that opened it.
    pub failures: u32,
    /// Trial requests that succeeded since it is half open.
    pub successes: u32,
    /// Failures in a row that open it; 0: that rule is off.
    pub threshold: u32,
    /// Requests in the window.
    pub window_requests: u32,
    /// Failures among them.
    pub window_failures: u32,
    /// How long it stays open.
    pub open_for: Duration,
    /// While open: how long until it lets trial requests through.
    pub remaining: Option<Duration>,
}

/// Leave to send one request. Must be given back by [`Permit::record`]; dropping it means the request was given up.
#[derive(Debug)]
#[must_use = "the outcome must be recorded"]
pub struct Permit {
    breaker: Arc<Breaker>,
    generation: u64,
    transition: Option<Transition>,
    recorded: bool,
}

impl Breaker {
    /// A closed breaker; none where both rules are off.
    pub fn new(config: Option<&v1::CircuitBreaker>) -> Option<Arc<Self>> {
        let rules = Rules::new(config?)?;
        let inner = Inner {
            state: State::Closed,
            generation: 0,
            consecutive: 0,
            window: Window::new(rules.window),
            opened: None,
            trials: 0,
            successes: 0,
        };
        Some(Arc::new(Self { rules, gate: AtomicU64::new(0), inner: Mutex::new(inner) }))
    }

    /// Whether this breaker does what `config` says, so that its state may be kept over an update.
    pub fn fits(&self, config: Option<&v1::CircuitBreaker>) -> bool {
        config.and_then(Rules::new) == Some(self.rules)
    }

    /// Asks to send one request.
    pub fn admit(self: &Arc<Self>, now: Instant) -> Result<Permit, Reject> {
        let gate = self.gate.load(Ordering::Acquire);
        let (generation, transition) = if gate & 1 == 0 { (gate >> 1, None) } else { self.admit_slow(now)? };
        Ok(Permit { breaker: Arc::clone(self), generation, transition, recorded: false })
    }

    /// What can be read about it.
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let mut inner = self.lock();
        let (window_requests, window_failures) = inner.window.counts(now);
        let opened = inner.opened.filter(|_| inner.state == State::Open);
        Snapshot {
            state: inner.state,
            failures: inner.consecutive,
            successes: inner.successes,
            threshold: self.rules.consecutive_failures,
            window_requests,
            window_failures,
            open_for: self.rules.open_for,
            remaining: opened.map(|at| (at + self.rules.open_for).saturating_duration_since(now)),
        }
    }

    /// Where it stands, without a lock: closed or not is exact, which of the others it is may just be changing.
    pub fn state(&self) -> State {
        if self.gate.load(Ordering::Acquire) & 1 == 0 { State::Closed } else { self.lock().state }
    }

    /// Closes it by hand.
    pub fn reset(&self) -> Option<Transition> {
        self.turn(&mut self.lock(), State::Closed)
    }

    fn admit_slow(&self, now: Instant) -> Result<(u64, Option<Transition>), Reject> {
        let mut inner = self.lock();
        let mut transition = None;
        if let (State::Open, Some(opened)) = (inner.state, inner.opened) {
            let remaining = (opened + self.rules.open_for).saturating_duration_since(now);
            if !remaining.is_zero() {
                return Err(refuse(remaining));
            }
            transition = self.turn(&mut inner, State::HalfOpen);
        }
        if inner.state == State::HalfOpen {
            if inner.trials + inner.successes >= self.rules.half_open_requests {
                return Err(refuse(Duration::from_secs(1)));
            }
            inner.trials += 1;
        }
        Ok((inner.generation, transition))
    }

    fn record(&self, generation: u64, health: Health, now: Instant) -> Option<Transition> {
        let mut inner = self.lock();
        if inner.generation != generation {
            return None;
        }
        match (inner.state, health) {
            (State::Closed, _) => self.record_closed(&mut inner, health, now),
            (State::HalfOpen, Health::Good) => {
                inner.trials = inner.trials.saturating_sub(1);
                inner.successes += 1;
                let enough = inner.successes >= self.rules.half_open_requests;
                if enough { self.turn(&mut inner, State::Closed) } else { None }
            }
            (State::HalfOpen, Health::Bad) => {
                inner.consecutive = inner.consecutive.saturating_add(1);
                self.open(&mut inner, now)
            }
            (State::HalfOpen, Health::Unknown) => {
                inner.trials = inner.trials.saturating_sub(1);
                None
            }
            // Nothing was admitted in this generation.
            (State::Open, _) => None,
        }
    }

    fn record_closed(&self, inner: &mut Inner, health: Health, now: Instant) -> Option<Transition> {
        let rules = &self.rules;
        match health {
            Health::Unknown => return None,
            Health::Good => inner.consecutive = 0,
            Health::Bad => inner.consecutive = inner.consecutive.saturating_add(1),
        }
        let failed = health == Health::Bad;
        if rules.failure_ratio > 0.0 {
            inner.window.add(failed, now);
        }
        if !failed {
            return None;
        }
        let in_a_row = rules.consecutive_failures > 0 && inner.consecutive >= rules.consecutive_failures;
        if in_a_row || rules.ratio_reached(inner.window.counts(now)) { self.open(inner, now) } else { None }
    }

    fn open(&self, inner: &mut Inner, now: Instant) -> Option<Transition> {
        inner.opened = Some(now);
        self.turn(inner, State::Open)
    }

    fn turn(&self, inner: &mut Inner, to: State) -> Option<Transition> {
        let from = inner.state;
        inner.state = to;
        inner.generation += 1;
        inner.trials = 0;
        inner.successes = 0;
        if to == State::Closed {
            inner.consecutive = 0;
            inner.window.clear();
        }
        self.gate.store(inner.generation << 1 | u64::from(to != State::Closed), Ordering::Release);
        (from != to).then_some(Transition { from, to })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing between lock and unlock can panic half way; counters of a poisoned lock are still counters.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// The transition that asking for this permit brought about (open to half open).
    pub fn transition(&self) -> Option<Transition> {
        self.transition
    }

    /// Says how the request ended.
    pub fn record(mut self, outcome: Outcome, now: Instant) -> Option<Transition> {
        self.recorded = true;
        self.breaker.record(self.generation, outcome.health(), now)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // Only a trial takes a place that must be given back.
        if !self.recorded && self.breaker.gate.load(Ordering::Acquire) == self.generation << 1 | 1 {
            let mut inner = self.breaker.lock();
            if inner.generation == self.generation {
                inner.trials = inner.trials.saturating_sub(1);
            }
        }
    }
}

impl Rules {
    fn new(config: &v1::CircuitBreaker) -> Option<Self> {
        let ratio = config.failure_ratio;
        let failure_ratio = if ratio > 0.0 && ratio <= 1.0 && config.window_ms > 0 { ratio } else { 0.0 };
        (config.consecutive_failures > 0 || failure_ratio > 0.0).then_some(Self {
            consecutive_failures: config.consecutive_failures,
            failure_ratio,
            min_requests: config.min_requests.max(1),
            window: Duration::from_millis(config.window_ms),
            open_for: Duration::from_millis(config.open_for_ms),
            half_open_requests: config.half_open_requests.max(1),
        })
    }

    fn ratio_reached(&self, (requests, failures): (u32, u32)) -> bool {
        self.failure_ratio > 0.0
            && requests >= self.min_requests
            // The tolerance is for ratios such as 0.6 that no binary fraction hits exactly.
            && f64::from(failures) + 1e-9 >= self.failure_ratio * f64::from(requests)
    }
}

fn refuse(remaining: Duration) -> Reject {
    let seconds = remaining.as_secs() + u64::from(remaining.subsec_nanos() > 0);
    Reject::new(Reason::CircuitOpen).retry_after(u32::try_from(seconds).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests;
