//! A service running in this process on free ports, and waiting for a condition.

use std::time::Duration;

use ::http::StatusCode;
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use super::Http;
use crate::server::Listeners;

/// A running service.
pub struct Running {
    /// Its JSON API.
    pub http: Http,
    /// The base URL of its gRPC API.
    pub grpc: String,
    shutdown: CancellationToken,
    task: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Running {
    /// Starts a service and waits until it is ready.
    pub async fn start<F>(serve: impl FnOnce(Listeners, CancellationToken) -> F) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let mut running = Self::launch(serve).await;
        eventually("the service is ready", async || running.http.get("/health").await.body["ready"] == true)
            .await;
        running.http = running.http.held_to_its_document().await;
        running
    }

    /// Starts a service and does not wait.
    pub async fn launch<F>(serve: impl FnOnce(Listeners, CancellationToken) -> F) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let open = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listeners = Listeners { http: open().await, grpc: open().await };
        let at = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
        let (http, grpc) = (Http::new(at(&listeners.http)), at(&listeners.grpc));
        let shutdown = CancellationToken::new();
        let task = spawn(serve(listeners, shutdown.clone()));
        Self { http, grpc, shutdown, task: Some(task) }
    }

    /// A connection to its gRPC API.
    pub fn channel(&self) -> Channel {
        Endpoint::from_shared(self.grpc.clone()).unwrap().connect_lazy()
    }

    /// The gRPC services that it shows to tools.
    pub async fn reflected(&self) -> Vec<String> {
        let ask = MessageRequest::ListServices(String::new());
        let ask = ServerReflectionRequest { host: String::new(), message_request: Some(ask) };
        let mut client = ServerReflectionClient::new(self.channel());
        let answers = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap();
        let answer = answers.into_inner().message().await.unwrap().unwrap();
        match answer.message_response.unwrap() {
            MessageResponse::ListServicesResponse(list) => list.service.into_iter().map(|s| s.name).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// Tells the service to stop and does not wait.
    pub fn begin_stop(&self) {
        self.shutdown.cancel();
    }

    /// Stops the service and waits until it has.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        self.ended().await
    }

    /// Waits until the service ends by itself.
    pub async fn ended(mut self) -> anyhow::Result<()> {
        self.task.take().unwrap().await.unwrap()
    }

    /// The JSON API's health.
    pub async fn health(&self) -> (StatusCode, String) {
        let reply = self.http.get("/health").await;
        (reply.status, reply.body["status"].as_str().unwrap_or_default().to_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the task is awaited in stop, and the runtime ends with the test"
)]
fn spawn(work: impl Future<Output = anyhow::Result<()>> + Send + 'static) -> JoinHandle<anyhow::Result<()>> {
    tokio::spawn(work)
}

/// Waits until a condition holds, for at most 20 s.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < deadline, "it never came to pass that {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
