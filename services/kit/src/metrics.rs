//! What a service counts, for Prometheus: requests, pool, cache and events. One registry per service, not per process,
//! so that several services run in one test. The mesh counts traffic; this is what only the service can know.

use std::time::Duration;

pub use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};
use prometheus::{HistogramOpts, HistogramVec, IntGaugeVec, Opts, Registry, TextEncoder, core::Collector};

use crate::store::Usage;

/// Seconds, from what a cache answers to what nobody waits for.
const SECONDS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The metrics of one service.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    duration: HistogramVec,
    pool: IntGaugeVec,
    pool_alarm: IntGauge,
    cache: IntCounterVec,
    events: IntCounterVec,
    consumed: IntCounterVec,
    waiting: IntGaugeVec,
    asked: IntCounterVec,
}

/// How the delivery of an event ended.
#[derive(Clone, Copy, Debug)]
pub enum EventOutcome {
    /// It was handled.
    Handled,
    /// It failed and comes again.
    Retried,
    /// It was put into the dead-letter stream.
    Dead,
}

/// How a look into the cache ended.
#[derive(Clone, Copy, Debug)]
pub enum CacheOutcome {
    /// Found.
    Hit,
    /// Not found; the database answered.
    Miss,
    /// The cache could not be reached; the database answered.
    Skipped,
}

impl Metrics {
    /// Metrics that all start at 0.
    pub fn new() -> Self {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let duration = HistogramOpts::new("shop_request_duration_seconds", "Time to the head of the answer.");
        Self {
            requests: counter("shop_requests_total", "Requests answered.", &["protocol", "route", "status"]),
            duration: register(
                &registry,
                HistogramVec::new(duration.buckets(SECONDS.into()), &["protocol", "route"]),
            ),
            pool: gauge(
                "shop_database_connections",
                "Connections of the pool: open, in use, at most.",
                &["state"],
            ),
            pool_alarm: register(
                &registry,
                IntGauge::new("shop_database_pool_alarm", "Whether 80 % of the pool is in use."),
            ),
            cache: counter("shop_cache_requests_total", "Looks into the cache.", &["outcome"]),
            events: counter("shop_events_published_total", "Events moved from the outbox.", &["stream"]),
            consumed: counter(
                "shop_events_consumed_total",
                "Deliveries of events by how they ended.",
                &["group", "stream", "outcome"],
            ),
            asked: counter("shop_bus_calls_total", "Questions sent over the bus.", &["to", "outcome"]),
            waiting: gauge(
                "shop_events_waiting",
                "Events of a stream that the group was not given, or has not acknowledged.",
                &["group", "stream", "state"],
            ),
            registry,
        }
    }

    /// A counter of the service's own, beside those that all services have. Each name once.
    pub fn counter(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        register(&self.registry, IntCounterVec::new(Opts::new(name, help), labels))
    }

    /// A counter of the service's own that has no labels. Each name once.
    pub fn plain_counter(&self, name: &str, help: &str) -> IntCounter {
        register(&self.registry, IntCounter::new(name, help))
    }

    /// A gauge of the service's own. Each name once.
    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        register(&self.registry, IntGauge::new(name, help))
    }

    /// A histogram of times of the service's own, in seconds. Each name once.
    pub fn histogram(&self, name: &str, help: &str) -> Histogram {
        let opts = HistogramOpts::new(name, help).buckets(SECONDS.into());
        register(&self.registry, Histogram::with_opts(opts))
    }

    /// Counts an answered request. `route` is the template of the path, never the path.
    pub fn request(&self, protocol: &str, route: &str, status: &str, took: Duration) {
        self.requests.with_label_values(&[protocol, route, status]).inc();
        self.duration.with_label_values(&[protocol, route]).observe(took.as_secs_f64());
    }

    /// Records how full the pool is.
    pub fn pool(&self, usage: Usage) {
        for (state, value) in [("open", usage.open), ("in_use", usage.in_use), ("max", usage.max)] {
            self.pool.with_label_values(&[state]).set(i64::from(value));
        }
        self.pool_alarm.set(i64::from(usage.is_nearly_full()));
    }

    /// Counts a look into the cache.
    pub fn cache(&self, outcome: CacheOutcome) {
        let label = match outcome {
            CacheOutcome::Hit => "hit",
            CacheOutcome::Miss => "miss",
            CacheOutcome::Skipped => "skipped",
        };
        self.cache.with_label_values(&[label]).inc();
    }

    /// Counts published events.
    pub fn published(&self, stream: &str) {
        self.events.with_label_values(&[stream]).inc();
    }

    /// Counts a delivery of an event.
    pub fn consumed(&self, group: &str, stream: &str, outcome: EventOutcome) {
        let label = match outcome {
            EventOutcome::Handled => "handled",
            EventOutcome::Retried => "retried",
            EventOutcome::Dead => "dead",
        };
        self.consumed.with_label_values(&[group, stream, label]).inc();
    }

    /// Counts a question sent over the bus.
    pub fn asked(&self, to: &str, outcome: &str) {
        self.asked.with_label_values(&[to, outcome]).inc();
    }

    /// Records how many events wait: given to nobody (Redis does not always know), and not acknowledged.
    pub fn backlog(&self, group: &str, stream: &str, undelivered: Option<usize>, pending: usize) {
        let set = |state: &str, count: usize| {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.waiting.with_label_values(&[group, stream, state]).set(count);
        };
        if let Some(undelivered) = undelivered {
            set("undelivered", undelivered);
        }
        set("pending", pending);
    }

    /// All metrics in Prometheus' text format.
    pub fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let collector = made.expect("the names and labels in the code are valid");
    registry.register(Box::new(collector.clone())).expect("every name is registered once");
    collector
}
