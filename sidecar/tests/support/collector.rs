//! What several tests of this folder share: a collector that keeps what it is sent.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// For anything that must happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// A collector of OTLP.
pub(crate) struct Collector {
    /// Where it listens.
    pub(crate) endpoint: String,
    batches: mpsc::Receiver<ExportTraceServiceRequest>,
    _server: JoinSet<()>,
}

struct Service(mpsc::Sender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.send(request.into_inner()).await.unwrap();
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (sender, batches) = mpsc::channel(8);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let service = TraceServiceServer::new(Service(sender));
            let server = tonic::transport::Server::builder().add_service(service);
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        Self { endpoint, batches, _server: server }
    }

    /// The next batch: who sent it, and its spans.
    pub(crate) async fn batch(&mut self) -> (Vec<KeyValue>, Vec<Span>) {
        let batch = timeout(DEADLINE, self.batches.recv()).await.expect("no spans came").unwrap();
        let of_resource = batch.resource_spans.into_iter().next().unwrap();
        let spans = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans).collect();
        (of_resource.resource.unwrap().attributes, spans)
    }
}

/// An attribute as text.
pub(crate) fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?;
    match value.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        _ => None,
    }
}
