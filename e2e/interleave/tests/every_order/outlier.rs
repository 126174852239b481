//! Outlier detection: endpoints that fail together are not all left out where some must stay.

use std::sync::Arc;

use tokio::time::Instant;
use weft_api::v1;
use weft_interleave::policy::outcome::Outcome;
use weft_interleave::policy::outlier::{Ejection, Peers, Policy};

use crate::twice;

struct Destination {
    policy: Policy,
    endpoints: [Ejection; 2],
}

impl Destination {
    fn new(now: Instant, max_ejected_percent: u32) -> Arc<Self> {
        let wire = v1::Outlier {
            consecutive_failures: 1,
            eject_ms: 30_000,
            max_ejected_percent,
            ..Default::default()
        };
        let policy = Policy::new(Some(&wire)).unwrap();
        Arc::new(Self { policy, endpoints: [Ejection::new(now), Ejection::new(now)] })
    }

    fn fail(&self, endpoint: usize, now: Instant) -> bool {
        let peers = || Peers { total: 2, ejected: self.ejected(now) };
        self.policy.record(&self.endpoints[endpoint], Outcome::Reset, now, peers).is_some()
    }

    fn ejected(&self, now: Instant) -> usize {
        self.endpoints.iter().filter(|endpoint| endpoint.is_ejected(now)).count()
    }
}

#[test]
fn of_two_that_fail_together_one_stays() {
    let now = Instant::now();
    loom::model(move || {
        let destination = Destination::new(now, 50);
        let with = Arc::clone(&destination);
        let (one, other) = crate::both(move || with.fail(0, now), || destination.fail(1, now));
        assert!(one ^ other);
        assert_eq!(destination.ejected(now), 1);
    });
}

#[test]
fn one_that_fails_twice_at_once_is_left_out_once() {
    let now = Instant::now();
    loom::model(move || {
        let destination = Destination::new(now, 100);
        let (one, other) = twice(&destination, move |destination| destination.fail(0, now));
        assert!(one ^ other, "one of them reports it");
        assert_eq!(destination.ejected(now), 1);
    });
}
