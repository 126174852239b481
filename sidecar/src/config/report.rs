//! What the proxy tells the operator about itself, for status, CLI and dashboard.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;
use weft_api::tls::fingerprint;
use weft_api::v1::{BreakerReport, BreakerState, Report};

use crate::config::Shared;
use crate::config::snapshot::{Destination, Snapshot};
use crate::policy::breaker::State;
use crate::telemetry::edge::Edges;

/// Makes reports; remembers what was reported, since edges carry only what is new.
#[derive(Debug, Default)]
pub struct Reporter {
    edges: Edges,
}

impl Reporter {
    /// The state at this moment.
    pub fn report(&mut self, shared: &Shared) -> Report {
        let metrics = &shared.telemetry.metrics;
        let identity = shared.identity.load();
        let roots = identity.iter().flat_map(|identity| &identity.identity.roots);
        Report {
            certificate_not_after: identity.as_ref().map_or(0, |identity| identity.not_after),
            breakers: breakers(&shared.config.load()),
            edges: self.edges.take(metrics),
            active_requests: shared.active_requests.load(Ordering::Relaxed),
            open_connections: shared.open_connections.load(Ordering::Relaxed),
            ready: shared.is_ready(),
            roots: roots.map(|root| fingerprint(root)).collect(),
        }
    }
}

fn breakers(snapshot: &Snapshot) -> Vec<BreakerReport> {
    let now = Instant::now();
    let report = |destination: &Arc<Destination>| {
        let breaker = destination.breaker.as_ref()?.snapshot(now);
        Some(BreakerReport {
            destination: destination.name.to_string(),
            state: match breaker.state {
                State::Closed => BreakerState::Closed,
                State::Open => BreakerState::Open,
                State::HalfOpen => BreakerState::HalfOpen,
            }
            .into(),
            failures: breaker.failures,
            successes: breaker.successes,
        })
    };
    snapshot.destinations.values().filter_map(report).collect()
}
