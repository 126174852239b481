//! How the watches are: what fails is said once, when it begins and when it is over, and shown as a metric meanwhile.
//! An API server that is away fails every watch at once, which is one line.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::runtime::watcher;
use tracing::{debug, info, warn};

use super::kind::Kind;
use crate::metrics::Metrics;

/// What keeps a watch from working.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The API server does not answer, or not now.
    Away,
    /// There is no such kind.
    Absent,
    /// The operator may not.
    Forbidden,
    /// The watch has fallen behind and starts over, which is nothing special.
    Behind,
    /// Something else.
    Other,
}

impl Failure {
    /// What a watch failed by.
    pub(super) fn of_watch(error: &watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => Self::of(error),
            watcher::Error::WatchError(status) => Self::of_code(status.code),
            watcher::Error::NoResourceVersion => Self::Other,
        }
    }

    /// What a request failed by.
    pub(super) fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_code(status.code),
            kube::Error::SerdeError(_)
            | kube::Error::FromUtf8(_)
            | kube::Error::LinesCodecMaxLineLengthExceeded => Self::Other,
            _ => Self::Away,
        }
    }

    fn of_code(code: u16) -> Self {
        match code {
            404 => Self::Absent,
            401 | 403 => Self::Forbidden,
            410 => Self::Behind,
            429 | 500.. => Self::Away,
            _ => Self::Other,
        }
    }
}

/// What is failing now.
pub(super) struct Health {
    metrics: Arc<Metrics>,
    failing: Mutex<Failing>,
}

/// What fails, by kind and, of one kind, by name.
type Failing = BTreeMap<(Kind, String), Failure>;

impl Health {
    /// Nothing fails yet.
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        for kind in Kind::LISTED {
            metrics.watch_failing.with_label_values(&[kind.as_str()]).set(0);
        }
        Self { metrics, failing: Mutex::default() }
    }

    /// A watch works. `of` tells those of one kind apart.
    pub(super) fn works(&self, kind: Kind, of: &str) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(failure) = failing.remove(&(kind, of.to_owned())) else { return };
        self.show(kind, &failing);
        match failure {
            Failure::Away if failing.values().any(|failure| *failure == Failure::Away) => {}
            Failure::Away => info!("the API server answers again"),
            Failure::Absent => info!(kind = kind.as_str(), "the kind is there now and is watched"),
            _ => info!(kind = kind.as_str(), of, "can be watched again"),
        }
    }

    /// A watch fails.
    pub(super) fn fails(&self, kind: Kind, of: &str, failure: Failure, error: &dyn std::error::Error) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let was_away = failing.values().any(|failure| *failure == Failure::Away);
        let before = failing.insert((kind, of.to_owned()), failure);
        self.show(kind, &failing);
        let (kind, error) = (kind.as_str(), with_causes(error));
        match failure {
            _ if before == Some(failure) => debug!(kind, of, error, "cannot be watched"),
            Failure::Away if was_away => debug!(kind, of, error, "cannot be watched"),
            Failure::Away => {
                warn!(kind, error, "the API server does not answer; what was read last stays in force");
            }
            Failure::Absent => info!(kind, "the cluster does not have this kind; it is watched once it does"),
            _ => warn!(kind, of, error, "cannot be watched; what was read last stays in force"),
        }
    }

    fn show(&self, kind: Kind, failing: &Failing) {
        let now = failing.iter().filter(|((of, _), failure)| *of == kind && **failure != Failure::Absent);
        let count = i64::try_from(now.count()).unwrap_or(i64::MAX);
        self.metrics.watch_failing.with_label_values(&[kind.as_str()]).set(count);
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(metrics: &Metrics, kind: &str) -> i64 {
        metrics.watch_failing.with_label_values(&[kind]).get()
    }

    #[test]
    fn a_watch_counts_as_failing_until_it_works_again() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let health = Health::new(Arc::clone(&metrics));
        let error = std::io::Error::other("refused");
        health.fails(Kind::Pod, "", Failure::Away, &error);
        health.fails(Kind::Pod, "", Failure::Away, &error);
        health.fails(Kind::Secret, "shop/a", Failure::Forbidden, &error);
        health.fails(Kind::Secret, "shop/b", Failure::Forbidden, &error);
        assert_eq!((failing(&metrics, "Pod"), failing(&metrics, "Secret")), (1, 2));
        health.works(Kind::Pod, "");
        health.works(Kind::Secret, "shop/a");
        assert_eq!((failing(&metrics, "Pod"), failing(&metrics, "Secret")), (0, 1));
    }

    #[test]
    fn a_kind_that_the_cluster_does_not_have_is_no_failure() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let health = Health::new(Arc::clone(&metrics));
        health.fails(Kind::Gateway, "", Failure::Absent, &std::io::Error::other("404"));
        assert_eq!(failing(&metrics, "Gateway"), 0);
    }
}
