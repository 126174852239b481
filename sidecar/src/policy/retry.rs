//! Retries: whether an attempt may be followed by another, when, and whether the budget still allows it. Stands in
//! `outbound/attempts.rs`, which counts attempts, waits and picks the endpoints.
//!
//! A request whose connection failed, or that a proxy on its way out turned away, is always tried elsewhere, even without
//! a policy: nothing can have been processed. Everything else is retried only where the policy names it and the request can be sent again.

pub mod budget;

use std::time::Duration;

use weft_api::v1;

use super::outcome::Outcome;

/// Attempts on different endpoints after connecting failed, without waiting and without a policy.
const CONNECT_ATTEMPTS: u32 = 3;

/// The retries of one destination.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    attempts: u32,
    base: Duration,
    max: Duration,
    jitter: f64,
    on_connect: bool,
    on_reset: bool,
    on_timeout: bool,
    on_status: Box<[u16]>,
    on_grpc: Box<[u32]>,
    hedge: Option<Hedge>,
}

/// When a request that has not been answered is sent to another endpoint too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hedge {
    /// After that long, and again after as long.
    pub after: Duration,
    /// So many times at most.
    pub max: u32,
}

/// What follows an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Its outcome is the answer.
    Stop,
    /// Another endpoint at once; takes nothing from the budget.
    Elsewhere,
    /// Another attempt after this pause, if the budget allows it.
    After(Duration),
}

/// One attempt that ended.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// How many have been made, this one included.
    pub made: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether the request can be sent again: its body is whole in memory, or was not touched.
    pub replayable: bool,
    /// Whether there is an endpoint that this request has not tried.
    pub others: bool,
}

impl Policy {
    /// Compiles the wire form; absent: only failed connections are tried elsewhere.
    pub fn new(config: Option<&v1::Retries>) -> Self {
        let Some(config) = config else { return Self::default() };
        Self {
            attempts: config.attempts,
            base: Duration::from_millis(config.backoff_base_ms),
            max: Duration::from_millis(config.backoff_max_ms.max(config.backoff_base_ms)),
            jitter: if config.jitter.is_finite() { config.jitter.clamp(0.0, 1.0) } else { 0.0 },
            on_connect: config.on_connect,
            on_reset: config.on_reset,
            on_timeout: config.on_timeout,
            on_status: config.on_status.iter().filter_map(|s| u16::try_from(*s).ok()).collect(),
            on_grpc: config.on_grpc.iter().copied().collect(),
            hedge: (config.hedge_after_ms > 0).then(|| Hedge {
                after: Duration::from_millis(config.hedge_after_ms),
                max: config.hedge_max.max(1),
            }),
        }
    }

    /// Whether requests may be sent more than once, so that their bodies are worth keeping.
    pub fn replays(&self) -> bool {
        self.attempts > 0
    }

    /// When requests that may be made twice are; none: never.
    pub fn hedge(&self) -> Option<Hedge> {
        self.hedge
    }

    /// What follows this attempt. `random` spreads the pause.
    pub fn decide(&self, attempt: &Attempt, random: u32) -> Next {
        let unseen = match attempt.outcome {
            Outcome::ConnectFailed => true,
            // The body may have left, though nobody has looked at it.
            Outcome::TurnedAway | Outcome::Unserved => attempt.replayable,
            _ => false,
        };
        if unseen && attempt.others && attempt.made < CONNECT_ATTEMPTS {
            return Next::Elsewhere;
        }
        if attempt.made > self.attempts || !attempt.replayable || !self.covers(attempt.outcome) {
            return Next::Stop;
        }
        Next::After(self.backoff(attempt.made, random))
    }

    /// The pause after the attempt numbered `made` (from 1): the base, doubled each time, at most the maximum. The
    /// random share is taken off, so that the maximum holds.
    pub fn backoff(&self, made: u32, random: u32) -> Duration {
        let factor = 1u32.checked_shl(made.saturating_sub(1)).unwrap_or(u32::MAX);
        let full = self.base.saturating_mul(factor).min(self.max);
        let share = f64::from(random) / f64::from(u32::MAX);
        full.mul_f64(1.0 - self.jitter * share)
    }

    fn covers(&self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::ConnectFailed => self.on_connect,
            Outcome::Reset => self.on_reset,
            Outcome::Timeout => self.on_timeout,
            Outcome::Status(status) => self.on_status.contains(&status.as_u16()),
            Outcome::Grpc(code) => self.on_grpc.contains(&code),
            Outcome::TurnedAway | Outcome::Unserved => self.on_status.contains(&503),
            // More requests are the last thing an overloaded service needs.
            Outcome::Overflow => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use proptest::prelude::*;

    use super::*;

    fn wire() -> v1::Retries {
        v1::Retries {
            attempts: 3,
            backoff_base_ms: 1000,
            backoff_max_ms: 10_000,
            on_connect: true,
            on_reset: true,
            on_status: vec![502, 503, 504],
            on_grpc: vec![14],
            ..Default::default()
        }
    }

    fn next(config: Option<&v1::Retries>, made: u32, outcome: Outcome) -> Next {
        let attempt = Attempt { made, outcome, replayable: true, others: true };
        Policy::new(config).decide(&attempt, 0)
    }

    const UNAVAILABLE: Outcome = Outcome::Status(StatusCode::SERVICE_UNAVAILABLE);

    #[test]
    fn three_retries_wait_one_two_and_four_seconds() {
        let seconds = |made| next(Some(&wire()), made, UNAVAILABLE);
        assert_eq!(seconds(1), Next::After(Duration::from_secs(1)));
        assert_eq!(seconds(2), Next::After(Duration::from_secs(2)));
        assert_eq!(seconds(3), Next::After(Duration::from_secs(4)));
        assert_eq!(seconds(4), Next::Stop);
    }

    #[test]
    fn only_what_the_policy_names_is_retried() {
        let check = |outcome| next(Some(&wire()), 1, outcome) != Next::Stop;
        assert!(check(UNAVAILABLE) && check(Outcome::Reset) && check(Outcome::Grpc(14)));
        assert!(!check(Outcome::Status(StatusCode::INTERNAL_SERVER_ERROR)));
        assert!(!check(Outcome::Status(StatusCode::OK)));
        assert!(!check(Outcome::Timeout) && !check(Outcome::Grpc(13)) && !check(Outcome::Overflow));
    }

    #[test]
    fn without_a_policy_only_a_failed_connection_is_tried_elsewhere() {
        assert_eq!(next(None, 1, Outcome::ConnectFailed), Next::Elsewhere);
        assert_eq!(next(None, 2, Outcome::ConnectFailed), Next::Elsewhere);
        assert_eq!(next(None, 3, Outcome::ConnectFailed), Next::Stop);
        assert_eq!(next(None, 1, Outcome::Reset), Next::Stop);
        assert_eq!(next(None, 1, UNAVAILABLE), Next::Stop);
    }

    #[test]
    fn a_hedge_is_off_unless_it_says_when() {
        assert_eq!(Policy::new(Some(&wire())).hedge(), None);
        let hedged = Policy::new(Some(&v1::Retries { hedge_after_ms: 50, ..wire() }));
        assert_eq!(hedged.hedge(), Some(Hedge { after: Duration::from_millis(50), max: 1 }));
    }

    #[test]
    fn a_body_that_is_gone_is_sent_elsewhere_only_if_it_never_left() {
        let policy = Policy::new(Some(&wire()));
        let mut attempt = Attempt { made: 1, outcome: UNAVAILABLE, replayable: false, others: true };
        assert_eq!(policy.decide(&attempt, 0), Next::Stop);
        attempt.outcome = Outcome::TurnedAway;
        assert_eq!(policy.decide(&attempt, 0), Next::Stop);
        attempt.outcome = Outcome::ConnectFailed;
        assert_eq!(policy.decide(&attempt, 0), Next::Elsewhere);
    }

    #[test]
    fn what_a_stopping_proxy_turned_away_goes_elsewhere_without_a_policy() {
        assert_eq!(next(None, 1, Outcome::TurnedAway), Next::Elsewhere);
        let attempt = Attempt { made: 1, outcome: Outcome::TurnedAway, replayable: true, others: false };
        assert_eq!(Policy::new(None).decide(&attempt, 0), Next::Stop);
        assert_eq!(Policy::new(Some(&wire())).decide(&attempt, 0), Next::After(Duration::from_secs(1)));
    }

    #[test]
    fn what_a_proxy_could_not_give_to_its_application_goes_elsewhere_without_a_policy() {
        assert_eq!(next(None, 1, Outcome::Unserved), Next::Elsewhere);
        let attempt = Attempt { made: 1, outcome: Outcome::Unserved, replayable: false, others: true };
        assert_eq!(Policy::new(None).decide(&attempt, 0), Next::Stop);
    }

    #[test]
    fn with_no_other_endpoint_a_failed_connection_waits_like_the_rest() {
        let attempt = Attempt { made: 1, outcome: Outcome::ConnectFailed, replayable: true, others: false };
        assert_eq!(Policy::new(Some(&wire())).decide(&attempt, 0), Next::After(Duration::from_secs(1)));
        assert_eq!(Policy::new(None).decide(&attempt, 0), Next::Stop);
    }

    proptest! {
        #[test]
        fn a_pause_stays_between_the_unjittered_part_and_the_maximum(made in 1u32..200, random: u32, jitter in 0.0..=1.0f64) {
            let policy = Policy::new(Some(&v1::Retries { jitter, ..wire() }));
            let pause = policy.backoff(made, random).as_secs_f64();
            let full = 2f64.powi(i32::try_from(made).unwrap() - 1).min(10.0);
            prop_assert!(pause <= full + 1e-6 && pause >= full * (1.0 - jitter) - 1e-6);
        }
    }
}
