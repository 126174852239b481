//! What came of the requests: how long they took from when they were due, what was refused and for which reason, what
//! failed. A refusal that the shop owes its customers (sold out) is an answer; only the rest is an error.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest time told apart, in microseconds: ten minutes.
const LONGEST: u64 = 600_000_000;

/// What came of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// What was asked for.
    Done,
    /// A no that is right, and its reason.
    Refused(String),
    /// An error, and its reason.
    Failed(String),
}

/// Counts from all requests.
#[derive(Debug)]
pub(crate) struct Record(Mutex<Counts>);

#[derive(Clone, Debug)]
struct Counts {
    /// In microseconds.
    took: Histogram<u64>,
    done: u64,
    refused: BTreeMap<String, u64>,
    failed: BTreeMap<String, u64>,
}

/// The latency of all answers, in milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    #[serde(rename = "p99.9")]
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// All that is to be said of a load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// Requests that were due.
    pub(crate) offered: u64,
    /// Those that got what they asked for.
    pub(crate) done: u64,
    /// Those that got a no that is right, by reason.
    pub(crate) refused: BTreeMap<String, u64>,
    /// Errors by reason.
    pub(crate) failed: BTreeMap<String, u64>,
    /// Errors of all, in percent.
    pub(crate) errors_percent: f64,
    /// From the first request that was due to the last answer.
    pub(crate) seconds: f64,
    /// Answers per second, errors not counted.
    pub(crate) per_second: f64,
    /// Answers to what was asked for, per second.
    pub(crate) done_per_second: f64,
    /// From when a request was due until its answer was there.
    pub(crate) latency_ms: Latency,
    /// Percentile and milliseconds, for the plot.
    pub(crate) curve: Vec<(f64, f64)>,
}

impl Record {
    pub(crate) fn new() -> Self {
        let took = Histogram::new_with_bounds(1, LONGEST, 3).expect("the bounds of this file are allowed");
        Self(Mutex::new(Counts { took, done: 0, refused: BTreeMap::new(), failed: BTreeMap::new() }))
    }

    /// Counts a request that was due so long ago.
    pub(crate) fn note(&self, outcome: Outcome, took: Duration) {
        let mut counts = self.counts();
        match outcome {
            Outcome::Done => counts.done += 1,
            Outcome::Refused(reason) => *counts.refused.entry(reason).or_default() += 1,
            Outcome::Failed(reason) => {
                *counts.failed.entry(reason).or_default() += 1;
                return;
            }
        }
        counts.took.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// So far: done, refused, failed, and the 99th percentile in milliseconds.
    pub(crate) fn so_far(&self) -> (u64, u64, u64, f64) {
        let counts = self.counts();
        let sum = |of: &BTreeMap<String, u64>| of.values().sum();
        (counts.done, sum(&counts.refused), sum(&counts.failed), millis(counts.took.value_at_quantile(0.99)))
    }

    /// All that is to be said, after that long.
    pub(crate) fn summary(&self, lasted: Duration) -> Summary {
        let counts = self.counts().clone();
        let sum = |of: &BTreeMap<String, u64>| of.values().sum::<u64>();
        let (answered, failed) = (counts.done + sum(&counts.refused), sum(&counts.failed));
        let seconds = lasted.as_secs_f64().max(f64::MIN_POSITIVE);
        let at = |quantile| millis(counts.took.value_at_quantile(quantile));
        Summary {
            offered: answered + failed,
            done: counts.done,
            errors_percent: 100.0 * failed as f64 / ((answered + failed).max(1)) as f64,
            seconds,
            per_second: answered as f64 / seconds,
            done_per_second: counts.done as f64 / seconds,
            latency_ms: Latency {
                p50: at(0.5),
                p90: at(0.9),
                p99: at(0.99),
                p999: at(0.999),
                max: millis(counts.took.max()),
            },
            curve: (0..=80)
                .map(|step| percentile(f64::from(step) / 20.0))
                .map(|p| (p, at(p / 100.0)))
                .collect(),
            refused: counts.refused,
            failed: counts.failed,
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The percentile with so many nines: 1 is 90, 2 is 99.
fn percentile(nines: f64) -> f64 {
    100.0 * (1.0 - 10_f64.powf(-nines))
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_refusal_is_an_answer_and_a_failure_an_error() {
        let record = Record::new();
        for took in 1..=90 {
            record.note(Outcome::Done, Duration::from_millis(took));
        }
        for _ in 0..9 {
            record.note(Outcome::Refused("sold-out".into()), Duration::from_millis(100));
        }
        record.note(Outcome::Failed("timeout".into()), Duration::from_secs(10));
        let summary = record.summary(Duration::from_secs(10));
        assert_eq!((summary.offered, summary.done, summary.refused["sold-out"]), (100, 90, 9));
        assert_eq!((summary.failed["timeout"], summary.errors_percent), (1, 1.0));
        assert!((summary.per_second - 9.9).abs() < 0.001 && (summary.done_per_second - 9.0).abs() < 0.001);
        assert!((50.0..50.1).contains(&summary.latency_ms.p50), "{summary:?}");
        assert!(summary.latency_ms.max < 101.0, "what failed took no time that means anything: {summary:?}");
    }

    #[test]
    fn nothing_at_all_is_a_summary_too() {
        let summary = Record::new().summary(Duration::ZERO);
        assert_eq!((summary.offered, summary.errors_percent), (0, 0.0));
    }
}
