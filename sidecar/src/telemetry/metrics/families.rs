//! The table of all metric families: name, help text and labels, each registered once. Labels of one peer's series are
//! filled in by `peer.rs`.

use std::collections::HashMap;
use std::sync::OnceLock;

use prometheus::core::Collector;
use prometheus::{
    Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::telemetry::metrics::{ConfigMetrics, Dropped};
use crate::telemetry::process::Usage;

/// Upper bounds of the latency buckets, seconds: fine where a mesh answers, coarse up to its usual timeouts.
const LATENCY_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Debug)]
pub(super) struct Families {
    pub(super) requests: IntCounterVec,
    pub(super) grpc: IntCounterVec,
    pub(super) duration: HistogramVec,
    pub(super) active: IntGaugeVec,
    pub(super) retries: IntCounterVec,
    pub(super) retries_over_budget: IntCounterVec,
    pub(super) hedges: IntCounterVec,
    pub(super) mirrors: IntCounterVec,
    pub(super) stale: IntCounterVec,
    pub(super) tcp_opened: IntCounterVec,
    pub(super) tcp_open: IntGaugeVec,
    pub(super) tcp_bytes: IntCounterVec,
    pub(super) breaker_state: IntGaugeVec,
    pub(super) breaker_transitions: IntCounterVec,
    pub(super) ejected: IntGaugeVec,
    pub(super) rejections: IntCounterVec,
    pub(super) would_deny: IntCounterVec,
    pub(super) handshake_failures: IntCounterVec,
    pub(super) global_limits: IntCounterVec,
    pub(super) renewals: IntCounterVec,
    pub(super) certificate_expiry: IntGauge,
    pub(super) certificate_expiring: IntGauge,
    dropped_log_lines: IntCounter,
    dropped_spans: IntCounter,
    config_updates: IntCounter,
    config_rejected: IntCounter,
    config_connected: IntGauge,
    resident: IntGauge,
    cpu: Gauge,
    fds: IntGauge,
}

const PEER: [&str; 2] = ["direction", "peer"];

pub(super) fn register(workload: &str) -> (Registry, Families) {
    let labels = HashMap::from([("workload".to_owned(), workload.to_owned())]);
    let registry = Registry::new_custom(None, Some(labels)).expect("the label's name is valid");
    let r = &registry;
    let duration = HistogramOpts::new("weft_request_duration_seconds", "From request head to end of answer.")
        .buckets(LATENCY_BUCKETS.to_vec());
    let families = Families {
        requests: counters(r, "weft_requests_total", "Requests by status.", &["direction", "peer", "code"]),
        grpc: counters(r, "weft_grpc_answers_total", "gRPC answers by code.", &["direction", "peer", "code"]),
        duration: add(r, HistogramVec::new(duration, &PEER)),
        active: gauges(r, "weft_requests_active", "Requests in flight.", &PEER),
        retries: counters(r, "weft_retries_total", "Further attempts after the first.", &PEER),
        retries_over_budget: counters(r, "weft_retries_over_budget_total", "Retries not made.", &PEER),
        hedges: counters(r, "weft_hedges_total", "Attempts beside one that was slow.", &PEER),
        mirrors: counters(
            r,
            "weft_mirrors_total",
            "Copies of requests for mirrors.",
            &["direction", "peer", "result"],
        ),
        stale: counters(r, "weft_stale_served_total", "Answers served from the stale cache.", &PEER),
        tcp_opened: counters(r, "weft_tcp_connections_total", "Raw connections.", &PEER),
        tcp_open: gauges(r, "weft_tcp_connections_open", "Raw connections open.", &PEER),
        tcp_bytes: counters(r, "weft_tcp_bytes_total", "Bytes copied.", &["direction", "peer", "flow"]),
        breaker_state: gauges(r, "weft_breaker_state", "0 closed, 1 open, 2 half open.", &["destination"]),
        breaker_transitions: counters(
            r,
            "weft_breaker_transitions_total",
            "Changes of breaker state.",
            &["destination", "to"],
        ),
        ejected: gauges(r, "weft_endpoints_ejected", "Endpoints not used for now.", &["destination"]),
        rejections: counters(r, "weft_rejections_total", "Refusals by the proxy.", &["direction", "reason"]),
        would_deny: counters(r, "weft_audit_denials_total", "What audit would refuse.", &["direction"]),
        handshake_failures: counters(
            r,
            "weft_tls_handshake_failures_total",
            "TLS handshakes that failed.",
            &["direction", "reason"],
        ),
        global_limits: counters(r, "weft_global_rate_limit_total", "Global limits asked.", &["result"]),
        renewals: counters(r, "weft_certificate_renewals_total", "Certificates asked for.", &["result"]),
        certificate_expiry: gauge(r, "weft_certificate_expiry_seconds", "Until the certificate ends."),
        certificate_expiring: gauge(
            r,
            "weft_certificate_expiring",
            "1 with less than a fifth of its life left.",
        ),
        dropped_log_lines: counter(r, "weft_access_log_dropped_total", "Log lines that did not fit."),
        dropped_spans: counter(r, "weft_spans_dropped_total", "Spans that were not exported."),
        config_updates: counter(r, "weft_config_updates_total", "Configuration updates applied."),
        config_rejected: counter(r, "weft_config_rejected_total", "Configuration updates refused."),
        config_connected: gauge(r, "weft_config_connected", "1 while the operator's stream is up."),
        resident: gauge(r, "process_resident_memory_bytes", "Resident set."),
        cpu: add(r, Gauge::new("process_cpu_seconds_total", "Processor time used.")),
        fds: gauge(r, "process_open_fds", "Open file descriptors."),
    };
    (registry, families)
}

impl Families {
    pub(super) fn singles(&self) -> (Dropped, ConfigMetrics) {
        let dropped =
            Dropped { log_lines: self.dropped_log_lines.clone(), spans: self.dropped_spans.clone() };
        let config = ConfigMetrics {
            updates: self.config_updates.clone(),
            rejected: self.config_rejected.clone(),
            connected: self.config_connected.clone(),
        };
        (dropped, config)
    }

    pub(super) fn set_process(&self, usage: Usage) {
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.resident.set(signed(usage.resident_bytes));
        self.fds.set(signed(usage.open_fds));
        self.cpu.set(usage.cpu_seconds);
    }
}

/// The counter in the slot, made at its first use: a series exists once there is something to count.
pub(super) fn lazily<T>(slot: &OnceLock<T>, make: impl FnOnce() -> T) -> &T {
    slot.get_or_init(make)
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    add(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    add(registry, IntGaugeVec::new(Opts::new(name, help), labels))
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    add(registry, IntCounter::new(name, help))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    add(registry, IntGauge::new(name, help))
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, collector: prometheus::Result<C>) -> C {
    let collector = collector.expect("names and labels in the table above are valid");
    registry.register(Box::new(collector.clone())).expect("names in the table above are distinct");
    collector
}
