//! A collector of traces that throws them away: the proxies that export do all of their part.

use anyhow::Result;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

struct Sink;

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        _: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Takes what comes.
pub(super) async fn collect(listener: TcpListener) -> Result<()> {
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(Sink));
    Ok(server.serve_with_incoming(TcpListenerStream::new(listener)).await?)
}
