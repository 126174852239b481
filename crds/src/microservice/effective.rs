//! Resilience in force: the service's own values, else the mesh's, else the built-in ones.
//!
//! A block that neither the service nor the mesh gives is off (retries, breaker, ejection, fallback); timeouts and
//! limits are always on. Core compiles from these types and never sees an `Option` that means "default".

use crate::defaults;
use crate::duration::Duration;
use crate::microservice::resilience::{
    Backoff, CircuitBreaker, Fallback, Fault, Hedge, Limits, OutlierDetection, Resilience, Retries,
    RetryBudget,
};
use crate::microservice::retry_on::RetryOn;
use crate::size::Size;

/// Resilience in force.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectiveResilience {
    /// Time for a whole request; none means no limit.
    pub timeout: Option<Duration>,
    /// Time to connect to an endpoint.
    pub connect_timeout: Duration,
    /// Time a stream may stay silent; none means no limit.
    pub idle_timeout: Option<Duration>,
    /// Retries; none means only connections that failed before the request left.
    pub retries: Option<EffectiveRetries>,
    /// The breaker, where there is one.
    pub circuit_breaker: Option<EffectiveBreaker>,
    /// Ejection of single endpoints, where there is one.
    pub outlier_detection: Option<EffectiveOutlier>,
    /// What one sidecar may have open.
    pub limits: EffectiveLimits,
    /// Age up to which an answer may be served while the breaker is open.
    pub stale: Option<Duration>,
    /// Faults made on purpose.
    pub faults: Vec<Fault>,
}

/// Retries in force.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectiveRetries {
    /// Retries after the first attempt, at least 1.
    pub attempts: u32,
    /// First pause.
    pub base: Duration,
    /// Longest pause, never below `base`.
    pub max: Duration,
    /// Share of a pause that is random, 0 to 1.
    pub jitter: f64,
    /// Retries in percent of requests.
    pub budget_percent: f64,
    /// Retries per second allowed in any case.
    pub budget_min_per_second: u32,
    /// What is tried again.
    pub on: Vec<RetryOn>,
    /// Sending a request to a second instance while the first is slow.
    pub hedge: Option<Hedge>,
}

/// The breaker in force. At least one of its two rules is there.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectiveBreaker {
    /// Failures in a row that open it.
    pub consecutive_failures: Option<u32>,
    /// Share of failures that opens it.
    pub failure_ratio: Option<FailureRatio>,
    /// How long it stays open.
    pub open_for: Duration,
    /// Trial requests while half open.
    pub half_open_requests: u32,
}

/// A share of failures over a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FailureRatio {
    /// More than 0, at most 1.
    pub ratio: f64,
    /// Requests in the window below which it says nothing.
    pub min_requests: u32,
    /// The window.
    pub window: Duration,
}

/// Ejection in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EffectiveOutlier {
    /// Failures in a row that eject an endpoint.
    pub consecutive_failures: u32,
    /// Length of the first ejection.
    pub eject: Duration,
    /// Most endpoints ejected at once, in percent.
    pub max_ejected_percent: u8,
    /// Share of endpoints in use, in percent, below which all are used.
    pub panic_percent: u8,
}

/// Limits in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EffectiveLimits {
    /// Connections.
    pub connections: u32,
    /// Requests that wait for a connection.
    pub pending: u32,
    /// Requests under way.
    pub requests: u32,
    /// Bytes of a request's body; none: no limit.
    pub body: Option<Size>,
}

impl Resilience {
    /// What is in force for a service that says `own` in a mesh whose defaults say `mesh`.
    pub fn effective(own: Option<&Self>, mesh: Option<&Self>) -> EffectiveResilience {
        let layers = Layers { own, mesh };
        let faults =
            [own, mesh].into_iter().flatten().map(|layer| &layer.faults).find(|faults| !faults.is_empty());
        let limitless = |duration: Duration| (!duration.is_zero()).then_some(duration);
        EffectiveResilience {
            timeout: limitless(layers.of(|l| l.timeout).unwrap_or(defaults::TIMEOUT)),
            connect_timeout: layers.of(|l| l.connect_timeout).unwrap_or(defaults::CONNECT_TIMEOUT),
            idle_timeout: limitless(layers.of(|l| l.idle_timeout).unwrap_or(defaults::IDLE_TIMEOUT)),
            retries: retries(&layers.blocks(|l| l.retries.as_ref())),
            circuit_breaker: breaker(&layers.blocks(|l| l.circuit_breaker.as_ref())),
            outlier_detection: outlier(&layers.blocks(|l| l.outlier_detection.as_ref())),
            limits: limits(&layers.blocks(|l| l.limits.as_ref())),
            stale: stale(&layers.blocks(|l| l.fallback.as_ref())),
            faults: faults.cloned().unwrap_or_default(),
        }
    }
}

impl Default for EffectiveResilience {
    fn default() -> Self {
        Resilience::effective(None, None)
    }
}

/// A block as the service and as the mesh give it; the service's value comes first.
struct Layers<'a, T> {
    own: Option<&'a T>,
    mesh: Option<&'a T>,
}

impl<'a, T> Layers<'a, T> {
    fn of<V>(&self, field: impl Fn(&'a T) -> Option<V>) -> Option<V> {
        self.own.and_then(&field).or_else(|| self.mesh.and_then(&field))
    }

    fn blocks<B>(&self, block: impl Fn(&'a T) -> Option<&'a B>) -> Layers<'a, B> {
        Layers { own: self.own.and_then(&block), mesh: self.mesh.and_then(&block) }
    }

    fn given(&self) -> bool {
        self.own.is_some() || self.mesh.is_some()
    }
}

fn retries(layers: &Layers<'_, Retries>) -> Option<EffectiveRetries> {
    let attempts = layers.of(|l| l.attempts).unwrap_or(defaults::RETRY_ATTEMPTS);
    if !layers.given() || attempts == 0 {
        return None;
    }
    let backoff: Layers<'_, Backoff> = layers.blocks(|l| l.backoff.as_ref());
    let budget: Layers<'_, RetryBudget> = layers.blocks(|l| l.budget.as_ref());
    let base = backoff.of(|b| b.base).unwrap_or(defaults::BACKOFF_BASE);
    Some(EffectiveRetries {
        attempts,
        base,
        // The two may come from different layers, so the longest pause is raised to the first one.
        max: backoff.of(|b| b.max).unwrap_or(defaults::BACKOFF_MAX).max(base),
        jitter: backoff.of(|b| b.jitter).unwrap_or(defaults::BACKOFF_JITTER),
        budget_percent: budget.of(|b| b.percent).unwrap_or(defaults::RETRY_BUDGET_PERCENT),
        budget_min_per_second: budget
            .of(|b| b.min_per_second)
            .unwrap_or(defaults::RETRY_BUDGET_MIN_PER_SECOND),
        on: layers.of(|l| l.on.clone()).unwrap_or_else(|| defaults::RETRY_ON.to_vec()),
        hedge: layers.of(|l| l.hedge),
    })
}

fn breaker(layers: &Layers<'_, CircuitBreaker>) -> Option<EffectiveBreaker> {
    if !layers.given() || layers.of(|l| l.enabled) == Some(false) {
        return None;
    }
    // The rules that the service names hold; where it names none, those that the mesh names; else both.
    let named = |l: &CircuitBreaker| {
        let named = (l.consecutive_failures.is_some(), l.failure_ratio.is_some());
        (named != (false, false)).then_some(named)
    };
    let (consecutive, ratio) = layers.of(named).unwrap_or((true, true));
    let failure_ratio = FailureRatio {
        ratio: layers.of(|l| l.failure_ratio).unwrap_or(defaults::BREAKER_FAILURE_RATIO),
        min_requests: layers.of(|l| l.min_requests).unwrap_or(defaults::BREAKER_MIN_REQUESTS),
        window: layers.of(|l| l.window).unwrap_or(defaults::BREAKER_WINDOW),
    };
    let failures = layers.of(|l| l.consecutive_failures).unwrap_or(defaults::BREAKER_CONSECUTIVE_FAILURES);
    Some(EffectiveBreaker {
        consecutive_failures: consecutive.then_some(failures),
        failure_ratio: ratio.then_some(failure_ratio),
        open_for: layers.of(|l| l.open_for).unwrap_or(defaults::BREAKER_OPEN_FOR),
        half_open_requests: layers
            .of(|l| l.half_open_requests)
            .unwrap_or(defaults::BREAKER_HALF_OPEN_REQUESTS),
    })
}

fn outlier(layers: &Layers<'_, OutlierDetection>) -> Option<EffectiveOutlier> {
    if !layers.given() || layers.of(|l| l.enabled) == Some(false) {
        return None;
    }
    Some(EffectiveOutlier {
        consecutive_failures: layers
            .of(|l| l.consecutive_failures)
            .unwrap_or(defaults::OUTLIER_CONSECUTIVE_FAILURES),
        eject: layers.of(|l| l.eject).unwrap_or(defaults::OUTLIER_EJECT),
        max_ejected_percent: layers
            .of(|l| l.max_ejected_percent)
            .unwrap_or(defaults::OUTLIER_MAX_EJECTED_PERCENT),
        panic_percent: layers.of(|l| l.panic_percent).unwrap_or(defaults::OUTLIER_PANIC_PERCENT),
    })
}

fn limits(layers: &Layers<'_, Limits>) -> EffectiveLimits {
    EffectiveLimits {
        connections: layers.of(|l| l.connections).unwrap_or(defaults::LIMIT_CONNECTIONS),
        pending: layers.of(|l| l.pending).unwrap_or(defaults::LIMIT_PENDING),
        requests: layers.of(|l| l.requests).unwrap_or(defaults::LIMIT_REQUESTS),
        body: layers.of(|l| l.body),
    }
}

fn stale(layers: &Layers<'_, Fallback>) -> Option<Duration> {
    layers.given().then(|| layers.of(|l| l.stale).unwrap_or(defaults::FALLBACK_STALE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resilience(json: serde_json::Value) -> Resilience {
        serde_json::from_value(json).unwrap()
    }

    fn check(own: serde_json::Value, mesh: serde_json::Value) -> EffectiveResilience {
        Resilience::effective(Some(&resilience(own)), Some(&resilience(mesh)))
    }

    #[test]
    fn nothing_said_means_timeouts_and_limits_only() {
        let effective = EffectiveResilience::default();
        assert_eq!(effective.timeout, Some(Duration::from_secs(5)));
        let limits = EffectiveLimits { connections: 1024, pending: 1024, requests: 4096, body: None };
        assert_eq!(effective.limits, limits);
        assert_eq!(effective.retries, None);
        assert_eq!(effective.circuit_breaker, None);
        assert_eq!(effective.outlier_detection, None);
        assert_eq!(effective.stale, None);
    }

    #[test]
    fn empty_blocks_switch_the_built_in_values_on() {
        let empty =
            serde_json::json!({"retries": {}, "circuitBreaker": {}, "outlierDetection": {}, "fallback": {}});
        let effective = check(empty, serde_json::json!({}));
        let secs = Duration::from_secs;
        let retries = effective.retries.unwrap();
        assert_eq!((retries.attempts, retries.base, retries.max), (3, secs(1), secs(10)));
        assert_eq!((retries.jitter, retries.budget_percent, retries.budget_min_per_second), (0.5, 20.0, 10));
        assert_eq!((&retries.on[..], retries.hedge), (&defaults::RETRY_ON[..], None));
        let breaker = effective.circuit_breaker.unwrap();
        assert_eq!((breaker.consecutive_failures, breaker.open_for), (Some(5), secs(60)));
        let ratio = FailureRatio { ratio: 0.6, min_requests: 3, window: secs(10) };
        assert_eq!((breaker.failure_ratio, breaker.half_open_requests), (Some(ratio), 3));
        let outlier = effective.outlier_detection.unwrap();
        assert_eq!(outlier.consecutive_failures, 5);
        assert_eq!((outlier.eject, outlier.max_ejected_percent), (secs(30), 50));
        assert_eq!(outlier.panic_percent, 0);
        assert_eq!(effective.stale, Some(secs(600)));
    }

    #[test]
    fn own_value_wins_over_the_mesh_field_by_field() {
        let effective = check(
            serde_json::json!({"timeout": "2s", "retries": {"attempts": 1}}),
            serde_json::json!({"timeout": "9s", "idleTimeout": "1m", "retries": {"attempts": 7, "backoff": {"base": "20s"}}}),
        );
        assert_eq!(effective.timeout, Some(Duration::from_secs(2)));
        assert_eq!(effective.idle_timeout, Some(Duration::from_secs(60)));
        let retries = effective.retries.unwrap();
        assert_eq!(retries.attempts, 1);
        assert_eq!((retries.base, retries.max), (Duration::from_secs(20), Duration::from_secs(20)));
    }

    #[test]
    fn only_the_named_breaker_rule_holds() {
        let breaker = |own, mesh| check(own, mesh).circuit_breaker.unwrap();
        let none = || serde_json::json!({});
        let row = breaker(serde_json::json!({"circuitBreaker": {"consecutiveFailures": 6}}), none());
        assert_eq!((row.consecutive_failures, row.failure_ratio), (Some(6), None));
        let mesh = serde_json::json!({"circuitBreaker": {"failureRatio": 0.5}});
        let share = breaker(none(), mesh.clone());
        assert_eq!(share.consecutive_failures, None);
        let half = FailureRatio { ratio: 0.5, min_requests: 3, window: Duration::from_secs(10) };
        assert_eq!(share.failure_ratio, Some(half));
        let own = breaker(serde_json::json!({"circuitBreaker": {"consecutiveFailures": 2}}), mesh);
        assert_eq!((own.consecutive_failures, own.failure_ratio), (Some(2), None));
    }

    #[test]
    fn a_service_can_switch_the_mesh_default_off() {
        let mesh =
            serde_json::json!({"timeout": "9s", "retries": {}, "circuitBreaker": {}, "outlierDetection": {}});
        let own = serde_json::json!({
            "timeout": "0s", "retries": {"attempts": 0},
            "circuitBreaker": {"enabled": false}, "outlierDetection": {"enabled": false}
        });
        assert_eq!(check(own, mesh), EffectiveResilience { timeout: None, ..EffectiveResilience::default() });
    }
}
