//! What the proxy tells the operator about itself, for status, CLI and dashboard.

use std::sync::atomic::Ordering;

use weft_api::v1::{BreakerReport, Report};

use crate::config::Shared;
use crate::config::snapshot::Snapshot;
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
        Report {
            certificate_not_after: shared.identity.load().as_ref().map_or(0, |identity| identity.not_after),
            breakers: breakers(&shared.config.load()),
            edges: self.edges.take(metrics),
            active_requests: shared.active_requests.load(Ordering::Relaxed),
            open_connections: shared.open_connections.load(Ordering::Relaxed),
            ready: shared.is_ready(),
        }
    }
}

fn breakers(_snapshot: &Snapshot) -> Vec<BreakerReport> {
    Vec::new()
}
