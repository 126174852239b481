//! What the operator counts, in a registry of its own (several operators can run in one process). Served at `/metrics`
//! by `server/admin`. Label values come from enums only, so their number is bounded.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// The operator's metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) streams: IntGauge,
    pub(crate) pushes: IntCounter,
    pub(crate) nacks: IntCounter,
    pub(crate) push_seconds: Histogram,
    pub(crate) certificates_issued: IntCounter,
    pub(crate) sign_refused: IntCounterVec,
    pub(crate) handshakes_refused: IntCounter,
    pub(crate) config_rejected: IntCounter,
    pub(crate) jwks_fetch: IntCounterVec,
    pub(crate) resources: IntGaugeVec,
    pub(crate) watch_failing: IntGaugeVec,
    pub(crate) leading: IntGauge,
    pub(crate) admissions: IntCounterVec,
}

impl Metrics {
    /// All metrics at zero.
    pub(crate) fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let push_buckets = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        let push_help = "Seconds from a delta being sent to its ack or nack";
        let metrics = Self {
            streams: IntGauge::new("weft_operator_streams", "Configuration streams open")?,
            pushes: IntCounter::new("weft_operator_pushes_total", "Deltas sent to proxies")?,
            nacks: IntCounter::new("weft_operator_nacks_total", "Deltas that proxies refused")?,
            push_seconds: Histogram::with_opts(
                HistogramOpts::new("weft_operator_push_seconds", push_help).buckets(push_buckets),
            )?,
            certificates_issued: IntCounter::new(
                "weft_operator_certificates_issued_total",
                "Certificates signed for proxies",
            )?,
            sign_refused: IntCounterVec::new(
                Opts::new("weft_operator_sign_refused_total", "Certificate requests refused"),
                &["reason"],
            )?,
            handshakes_refused: IntCounter::new(
                "weft_operator_handshakes_refused_total",
                "TLS handshakes that failed or showed an identity of another mesh",
            )?,
            config_rejected: IntCounter::new(
                "weft_config_rejected_total",
                "Configurations refused as a whole, the last good one being kept",
            )?,
            jwks_fetch: IntCounterVec::new(
                Opts::new("weft_operator_jwks_fetch_total", "Fetches of key sets"),
                &["outcome"],
            )?,
            resources: IntGaugeVec::new(
                Opts::new("weft_operator_resources", "Resources in force"),
                &["kind"],
            )?,
            watch_failing: IntGaugeVec::new(
                Opts::new("weft_operator_watch_failing", "Watches of the API server that fail now"),
                &["kind"],
            )?,
            leading: IntGauge::new(
                "weft_operator_leading",
                "Whether this replica writes to the cluster: 1 on one of them",
            )?,
            admissions: IntCounterVec::new(
                Opts::new("weft_operator_admissions_total", "Objects that the webhooks were asked about"),
                &["outcome", "webhook"],
            )?,
            registry,
        };
        metrics.register()?;
        Ok(metrics)
    }

    fn register(&self) -> prometheus::Result<()> {
        let registry = &self.registry;
        registry.register(Box::new(self.streams.clone()))?;
        registry.register(Box::new(self.pushes.clone()))?;
        registry.register(Box::new(self.nacks.clone()))?;
        registry.register(Box::new(self.push_seconds.clone()))?;
        registry.register(Box::new(self.certificates_issued.clone()))?;
        registry.register(Box::new(self.sign_refused.clone()))?;
        registry.register(Box::new(self.handshakes_refused.clone()))?;
        registry.register(Box::new(self.config_rejected.clone()))?;
        registry.register(Box::new(self.jwks_fetch.clone()))?;
        registry.register(Box::new(self.resources.clone()))?;
        registry.register(Box::new(self.watch_failing.clone()))?;
        registry.register(Box::new(self.leading.clone()))?;
        registry.register(Box::new(self.admissions.clone()))
    }

    /// All of it in the Prometheus text format.
    pub(crate) fn text(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `weft_operator_resources{kind="x"} 0` names its labels; the bounds of a histogram are none.
    fn labels(sample: &str) -> String {
        let inside = sample.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
        let pairs =
            inside.map_or("", |(inside, _)| inside).split(',').filter_map(|pair| pair.split_once('='));
        let names = pairs.map(|(name, _)| name).filter(|name| *name != "le").map(|name| format!("`{name}`"));
        names.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn the_readme_shows_the_same_metrics() {
        let metrics = Metrics::new().unwrap();
        for family in [&metrics.sign_refused, &metrics.jwks_fetch] {
            family.with_label_values(&["x"]).inc();
        }
        for family in [&metrics.resources, &metrics.watch_failing] {
            family.with_label_values(&["x"]).set(1);
        }
        metrics.admissions.with_label_values(&["x", "y"]).inc();
        let text = metrics.text().unwrap();
        let (mut rows, mut lines) = (Vec::new(), text.lines());
        while let Some(line) = lines.next() {
            let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '))
            else {
                continue;
            };
            let kind = lines.next().and_then(|line| line.rsplit(' ').next()).unwrap();
            let labels = labels(lines.next().unwrap());
            rows.push(format!("| `{name}` | {kind} | {labels} | {help} |"));
        }
        assert_eq!(rows.len(), 13, "a metric of the table above is not touched by this test");
        let rows = rows.join("\n");
        let table = format!("| what it says |\n|---|---|---|---|\n{rows}\n\n");
        assert!(include_str!("../README.md").contains(&table), "operator/README.md lacks these rows\n{rows}");
    }
}
