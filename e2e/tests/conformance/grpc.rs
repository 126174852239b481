//! gRPC through two proxies where it is not all well: deadlines, cancellation, refusals as statuses, retries by status,
//! and streams that outlive a configuration. The four kinds of call themselves are in `e2e/tests/mesh/protocols.rs`.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};
use weft_e2e::apps::grpc::proto::Message;
use weft_e2e::apps::grpc::proto::echo_client::EchoClient;
use weft_e2e::apps::grpc::proto::echo_server::Echo;
use weft_e2e::apps::grpc::serve;
use weft_e2e::manifest::{service, service_on};
use weft_e2e::mesh::Mesh;
use weft_e2e::{SOON, eventually};

/// What the application saw.
#[derive(Default)]
struct Seen {
    calls: AtomicU32,
    /// Calls whose handler was dropped before it was done.
    dropped: AtomicU32,
    /// Milliseconds of the last `grpc-timeout`.
    deadline: AtomicU32,
}

/// Counts a handler that does not come to its end.
struct Unfinished(Arc<Seen>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// Never answers `wait`, fails what is told to fail, echoes the rest.
#[derive(Clone, Default)]
struct App(Arc<Seen>);

type Messages = Pin<Box<dyn Stream<Item = Result<Message, Status>> + Send>>;

impl App {
    async fn answer(&self, request: Request<Message>) -> Result<Message, Status> {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        let deadline = request.metadata().get("grpc-timeout").and_then(|value| value.to_str().ok());
        let millis = deadline.and_then(|text| text.strip_suffix('m')?.parse().ok());
        self.0.deadline.store(millis.unwrap_or_default(), Ordering::SeqCst);
        let message = request.into_inner();
        if message.text == "wait" {
            let _unfinished = Unfinished(Arc::clone(&self.0));
            std::future::pending::<()>().await;
        }
        match i32::try_from(message.fail).unwrap() {
            0 => Ok(message),
            code => Err(Status::new(Code::from(code), "told to fail")),
        }
    }
}

#[tonic::async_trait]
impl Echo for App {
    async fn unary(&self, request: Request<Message>) -> Result<Response<Message>, Status> {
        self.answer(request).await.map(Response::new)
    }

    type ServerStreamStream = Messages;

    async fn server_stream(&self, request: Request<Message>) -> Result<Response<Messages>, Status> {
        let unfinished = Unfinished(Arc::clone(&self.0));
        let first = tokio_stream::once(Ok(request.into_inner()));
        let endless = first.chain(tokio_stream::pending()).map(move |message| {
            let _held = &unfinished;
            message
        });
        Ok(Response::new(Box::pin(endless)))
    }

    async fn client_stream(&self, request: Request<Streaming<Message>>) -> Result<Response<Message>, Status> {
        let _unfinished = Unfinished(Arc::clone(&self.0));
        let mut messages = request.into_inner();
        while let Some(message) = messages.next().await {
            message?;
        }
        Ok(Response::new(Message::default()))
    }

    type BidirectionalStream = Messages;

    async fn bidirectional(
        &self,
        request: Request<Streaming<Message>>,
    ) -> Result<Response<Messages>, Status> {
        Ok(Response::new(Box::pin(request.into_inner())))
    }
}

/// A mesh in which `order` calls `product`, whose spec has this besides.
struct Shop {
    mesh: Mesh,
    app: App,
    client: EchoClient<Channel>,
    _tasks: JoinSet<()>,
}

fn manifests(extra: &str) -> String {
    service_on(("grpc", "GRPC"), "product", extra) + &service("order", "")
}

async fn shop(extra: &str) -> Shop {
    let app = App::default();
    let (address, tasks) = serve(app.clone()).await;
    let mut mesh = Mesh::new(&manifests(extra));
    mesh.add("product-0", &[("grpc", address)]);
    mesh.add("order-0", &[]);
    let url = format!("http://{}", mesh.outbound("order-0", "shop/product:grpc"));
    let client = EchoClient::new(Channel::from_shared(url).unwrap().connect().await.unwrap());
    Shop { mesh, app, client, _tasks: tasks }
}

fn message(text: &str) -> Message {
    Message { text: text.to_owned(), ..Message::default() }
}

/// Waits until the application has noticed that so many calls are over.
async fn dropped(app: &App, calls: u32) {
    eventually("the application notices", async || {
        (app.0.dropped.load(Ordering::SeqCst) >= calls).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_deadline_is_shortened_on_its_way_and_held() {
    let mut shop = shop("  resilience: {timeout: 500ms}").await;
    let mut request = Request::new(message("hello"));
    request.set_timeout(Duration::from_mins(1));
    shop.client.unary(request).await.unwrap();
    let left = shop.app.0.deadline.load(Ordering::SeqCst);
    assert!((1..=500).contains(&left), "the application was given {left} ms");
    // Without a deadline of the caller's own the destination's timeout holds, and the application is told to stop.
    let status = timeout(SOON, shop.client.unary(message("wait"))).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    dropped(&shop.app, 1).await;
}

#[tokio::test]
async fn a_call_that_is_cancelled_is_cancelled_at_the_application() {
    let shop = shop("").await;
    let mut client = shop.client.clone();
    let mut calls = JoinSet::new();
    calls.spawn(async move { client.unary(message("wait")).await });
    eventually("the call has arrived", async || (shop.app.0.calls.load(Ordering::SeqCst) == 1).then_some(()))
        .await;
    calls.shutdown().await;
    dropped(&shop.app, 1).await;
}

#[tokio::test]
async fn a_stream_whose_reader_goes_away_ends_at_the_application() {
    let mut shop = shop("").await;
    let mut answers = shop.client.server_stream(message("x")).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().text, "x");
    drop(answers);
    dropped(&shop.app, 1).await;
}

#[tokio::test]
async fn streams_outlive_configurations_and_certificates() {
    let mut shop = shop("").await;
    let (sender, receiver) = mpsc::channel(1);
    let mut answers = shop.client.bidirectional(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    for round in 1..=5 {
        sender.send(message(&round.to_string())).await.unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap().text, round.to_string());
        shop.mesh.apply(&manifests(&format!("  resilience: {{timeout: {round}s}}")));
        shop.mesh.renew();
    }
    drop(sender);
    assert_eq!(answers.message().await.unwrap(), None);
}

#[tokio::test]
async fn refusals_are_statuses() {
    let cases = [
        ("  authorization: {default: Deny, rules: []}", Code::PermissionDenied, "forbidden"),
        (
            "  resilience: {limits: {requests: 1, pending: 1, connections: 16}}",
            Code::ResourceExhausted,
            "overflow",
        ),
    ];
    for (extra, code, reason) in cases {
        let mut shop = shop(extra).await;
        // Takes the one place there may be.
        let _first = shop.client.server_stream(message("x")).await;
        let status = shop.client.unary(message("x")).await.unwrap_err();
        assert_eq!(status.code(), code, "{extra}: {status}");
        assert_eq!(status.metadata().get("x-weft-reason").unwrap(), reason);
    }
    let mut shop = shop("").await;
    shop.mesh.stop("product-0", true).await;
    let status = shop.client.unary(message("x")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
}

#[tokio::test]
async fn a_call_is_repeated_by_its_status_and_by_no_other() {
    let mut shop =
        shop("  resilience: {retries: {attempts: 3, backoff: {base: 1ms, max: 2ms}, retryOn: [503]}}").await;
    for (code, attempts) in [(Code::Unavailable, 4), (Code::FailedPrecondition, 1), (Code::Ok, 1)] {
        shop.app.0.calls.store(0, Ordering::SeqCst);
        let fail = u32::try_from(code as i32).unwrap();
        let found = shop
            .client
            .unary(Message { fail, ..message("x") })
            .await
            .err()
            .map_or(Code::Ok, |status| status.code());
        assert_eq!(found, code);
        assert_eq!(shop.app.0.calls.load(Ordering::SeqCst), attempts, "{code:?}");
    }
}
