//! Export of spans by OTLP over gRPC. The request path hands finished spans over without waiting; a task of the control
//! plane turns them into OpenTelemetry's form and sends them in batches. What does not fit into the queue, or cannot be
//! sent in time, is dropped and counted. Off while the mesh names no endpoint.

mod span;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use prometheus::IntCounter;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::telemetry::trace::TraceContext;
use crate::telemetry::{Attempt, Request};

/// Spans that may wait to be sent.
const QUEUE: usize = 2048;
/// Spans sent at once.
const BATCH: usize = 512;
/// How long a batch may fill.
const FILL: Duration = Duration::from_secs(1);
/// How long a collector may take for a batch.
const SEND: Duration = Duration::from_secs(5);

/// A finished span.
#[derive(Debug)]
pub enum Finished {
    /// Of a request in one of the two paths.
    Request(std::sync::Arc<Request>),
    /// Of one attempt upstream.
    Attempt(Box<Attempt>),
}

/// The hot path's end.
#[derive(Debug)]
pub struct Spans {
    /// Bits of an `f64`.
    sampling: AtomicU64,
    endpoint: watch::Sender<Box<str>>,
    enabled: std::sync::atomic::AtomicBool,
    queue: mpsc::Sender<Finished>,
    dropped: IntCounter,
}

/// The exporter's end.
#[derive(Debug)]
pub struct Outlet {
    queue: mpsc::Receiver<Finished>,
    endpoint: watch::Receiver<Box<str>>,
    resource: Resource,
    dropped: IntCounter,
}

/// A queue of spans of this workload (`<namespace>/<service>`), off at first, and the end that exports it.
pub fn queue(workload: &str, dropped: IntCounter) -> (Spans, Outlet) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let (endpoint, endpoints) = watch::channel(Box::default());
    let spans = Spans {
        sampling: AtomicU64::new(0.0_f64.to_bits()),
        endpoint,
        enabled: false.into(),
        queue: sender,
        dropped: dropped.clone(),
    };
    (spans, Outlet { queue: receiver, endpoint: endpoints, resource: span::resource(workload), dropped })
}

impl Spans {
    /// Changes where spans go (empty: nowhere) and which share of the traces begun here is recorded.
    pub fn configure(&self, endpoint: &str, sampling: f64) {
        self.sampling.store(sampling.to_bits(), Ordering::Relaxed);
        self.enabled.store(!endpoint.is_empty(), Ordering::Relaxed);
        self.endpoint.send_if_modified(|current| {
            let changed = **current != *endpoint;
            if changed {
                *current = endpoint.into();
            }
            changed
        });
    }

    /// Share of the traces begun here that is recorded.
    pub fn sampling(&self) -> f64 {
        f64::from_bits(self.sampling.load(Ordering::Relaxed))
    }

    /// Whether spans of this trace are exported.
    pub fn wants(&self, trace: &TraceContext) -> bool {
        trace.sampled && self.enabled.load(Ordering::Relaxed)
    }

    /// Hands over a span; drops and counts it when the exporter is behind.
    pub fn send(&self, span: Finished) {
        if self.queue.try_send(span).is_err() {
            self.dropped.inc();
        }
    }
}

impl Outlet {
    /// Exports spans until told to finish, then what is left in the queue.
    pub async fn run(mut self, finish: CancellationToken) {
        let mut exporter = Exporter::new(&self.endpoint.borrow_and_update().clone(), &self.resource);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let open = tokio::select! {
                biased;
                Ok(()) = self.endpoint.changed() => {
                    exporter = Exporter::new(&self.endpoint.borrow_and_update().clone(), &self.resource);
                    continue;
                }
                received = self.queue.recv_many(&mut batch, BATCH) => received > 0,
                () = finish.cancelled() => false,
            };
            if !open {
                return;
            }
            self.fill(&mut batch, &finish).await;
            let spans: Vec<SpanData> = batch.drain(..).map(|finished| span::data(&finished)).collect();
            let count = spans.len() as u64;
            if !exporter.send(spans).await {
                self.dropped.inc_by(count);
            }
        }
    }

    /// Lets a batch grow for a while, so that few requests do not make as many exports.
    async fn fill(&mut self, batch: &mut Vec<Finished>, finish: &CancellationToken) {
        if batch.len() < BATCH && !finish.is_cancelled() {
            tokio::select! { () = sleep(FILL) => {}, () = finish.cancelled() => {} }
        }
        while batch.len() < BATCH {
            let Ok(span) = self.queue.try_recv() else { return };
            batch.push(span);
        }
    }
}

/// The connection to one collector.
struct Exporter {
    otlp: Option<SpanExporter>,
    endpoint: Box<str>,
    failing: bool,
}

impl Exporter {
    /// Connects at the first export, and again by itself.
    fn new(endpoint: &str, resource: &Resource) -> Self {
        let mut otlp = None;
        if !endpoint.is_empty() {
            let builder = SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(SEND);
            match builder.build() {
                Ok(mut exporter) => {
                    exporter.set_resource(resource);
                    info!(endpoint, "spans are exported");
                    otlp = Some(exporter);
                }
                Err(error) => warn!(endpoint, %error, "spans cannot be exported to this endpoint"),
            }
        }
        Self { otlp, endpoint: endpoint.into(), failing: false }
    }

    /// Whether the collector took the spans. Says once that it fails, and once that it works again.
    async fn send(&mut self, spans: Vec<SpanData>) -> bool {
        let Some(otlp) = &self.otlp else { return false };
        let failure = match timeout(SEND, otlp.export(spans)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("no answer in time".to_owned()),
        };
        match &failure {
            Some(error) if !self.failing => {
                warn!(endpoint = &*self.endpoint, error, "spans are not exported");
            }
            None if self.failing => info!(endpoint = &*self.endpoint, "spans are exported again"),
            _ => {}
        }
        self.failing = failure.is_some();
        !self.failing
    }
}
