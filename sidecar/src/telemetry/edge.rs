//! Golden metrics per edge of the service graph, for the report to the operator: what passed between this workload and
//! each peer since the last report. Reads the totals the metrics keep anyway, so a request pays nothing for it.

use std::collections::HashMap;

use weft_api::v1;

use crate::telemetry::Direction;
use crate::telemetry::metrics::{Metrics, Totals};

/// Remembers what was already reported.
#[derive(Debug, Default)]
pub struct Edges {
    reported: HashMap<(Direction, Box<str>), Totals>,
}

impl Edges {
    /// What has passed since the last call, quiet edges left out.
    pub fn take(&mut self, metrics: &Metrics) -> Vec<v1::EdgeReport> {
        let mut reports = Vec::new();
        let mut current = HashMap::new();
        for peer in metrics.peers() {
            let totals = peer.totals();
            let key = (peer.direction(), Box::from(peer.name()));
            let before = self.reported.remove(&key).unwrap_or_default();
            let since = totals.since(before);
            if since.requests > 0 {
                reports.push(v1::EdgeReport {
                    peer: peer.name().to_owned(),
                    inbound: peer.direction() == Direction::Inbound,
                    requests: since.requests,
                    failures: since.failures,
                    latency_sum_ms: since.latency_ms(),
                });
            }
            current.insert(key, totals);
        }
        self.reported = current;
        reports
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;

    use super::*;
    use crate::telemetry::Answer;

    fn answer(status: StatusCode, millis: u64) -> Answer {
        Answer { status, grpc_status: None, reject: None, duration: Duration::from_millis(millis) }
    }

    #[test]
    fn each_report_holds_only_what_passed_since_the_last() {
        let metrics = Metrics::new("shop/order");
        let mut edges = Edges::default();
        let peer = metrics.peer(Direction::Outbound, "shop/product:http");
        peer.finished(&answer(StatusCode::OK, 10));
        peer.finished(&answer(StatusCode::BAD_GATEWAY, 30));
        let first = edges.take(&metrics);
        assert_eq!(first.len(), 1);
        assert_eq!((first[0].requests, first[0].failures, first[0].latency_sum_ms), (2, 1, 40));
        assert!(!first[0].inbound);
        assert!(edges.take(&metrics).is_empty());
        peer.finished(&answer(StatusCode::NOT_FOUND, 5));
        let third = edges.take(&metrics);
        assert_eq!((third[0].requests, third[0].failures, third[0].latency_sum_ms), (1, 0, 5));
    }

    #[test]
    fn inbound_and_outbound_edges_with_the_same_peer_are_told_apart() {
        let metrics = Metrics::new("shop/order");
        for direction in [Direction::Inbound, Direction::Outbound] {
            metrics.peer(direction, "shop/user").finished(&answer(StatusCode::OK, 1));
        }
        let mut inbound: Vec<bool> =
            Edges::default().take(&metrics).iter().map(|edge| edge.inbound).collect();
        inbound.sort_unstable();
        assert_eq!(inbound, [false, true]);
    }
}
