//! A gRPC application with all four kinds of call.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures_util::{Stream, StreamExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status, Streaming};

/// Messages and services of `weft.test.v1`.
#[expect(
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    clippy::excessive_nesting,
    reason = "generated code"
)]
pub mod proto {
    tonic::include_proto!("weft.test.v1");
}

use proto::Message;
use proto::echo_server::{Echo, EchoServer};

/// A running gRPC application.
pub struct GrpcApp {
    /// Where it listens.
    pub addr: SocketAddr,
    service: Service,
    _tasks: JoinSet<()>,
}

#[derive(Clone, Default)]
struct Service {
    metadata: Arc<Mutex<Vec<MetadataMap>>>,
}

impl GrpcApp {
    /// Starts on a free port of loopback.
    pub async fn start() -> Self {
        let service = Service::default();
        let (addr, tasks) = serve(service.clone()).await;
        Self { addr, service, _tasks: tasks }
    }

    /// Metadata of every call it saw, oldest first.
    pub fn metadata(&self) -> Vec<MetadataMap> {
        self.service.metadata.lock().unwrap().clone()
    }
}

/// Serves these answers on a free port of loopback until the tasks are dropped.
pub async fn serve(echo: impl Echo) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder().add_service(EchoServer::new(echo));
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap() });
    (addr, tasks)
}

impl Service {
    fn saw<T>(&self, request: &Request<T>) {
        self.metadata.lock().unwrap().push(request.metadata().clone());
    }
}

fn failure(message: &Message) -> Result<(), Status> {
    match message.fail {
        0 => Ok(()),
        code => Err(Status::new(Code::from(i32::try_from(code).unwrap()), "told to fail")),
    }
}

#[tonic::async_trait]
impl Echo for Service {
    async fn unary(&self, request: Request<Message>) -> Result<Response<Message>, Status> {
        self.saw(&request);
        failure(request.get_ref())?;
        Ok(Response::new(request.into_inner()))
    }

    type ServerStreamStream = Pin<Box<dyn Stream<Item = Result<Message, Status>> + Send>>;

    async fn server_stream(
        &self,
        request: Request<Message>,
    ) -> Result<Response<Self::ServerStreamStream>, Status> {
        self.saw(&request);
        let message = request.into_inner();
        let failed = failure(&message).err();
        let many = (0..message.count).map(move |count| Ok(Message { count, ..message.clone() }));
        let all: Vec<_> = many.chain(failed.map(Err)).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter(all))))
    }

    async fn client_stream(&self, request: Request<Streaming<Message>>) -> Result<Response<Message>, Status> {
        self.saw(&request);
        let mut messages = request.into_inner();
        let mut joined = Message::default();
        while let Some(message) = messages.next().await {
            joined.text.push_str(&message?.text);
            joined.count += 1;
        }
        Ok(Response::new(joined))
    }

    type BidirectionalStream = Pin<Box<dyn Stream<Item = Result<Message, Status>> + Send>>;

    async fn bidirectional(
        &self,
        request: Request<Streaming<Message>>,
    ) -> Result<Response<Self::BidirectionalStream>, Status> {
        self.saw(&request);
        let answers = request.into_inner().map(|message| message.and_then(|m| failure(&m).map(|()| m)));
        Ok(Response::new(Box::pin(answers)))
    }
}
