//! Protocols through two proxies: HTTP/1.1, HTTP/2, gRPC in all kinds, WebSocket, TCP.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::tungstenite::Message as WsMessage;
use tonic::transport::Channel;
use tonic::{Code, Request};
use weft_e2e::apps::grpc::GrpcApp;
use weft_e2e::apps::grpc::proto::Message;
use weft_e2e::apps::grpc::proto::echo_client::EchoClient;
use weft_e2e::apps::tcp::{GREETING, TcpApp};
use weft_e2e::apps::websocket::WebSocketApp;
use weft_e2e::client::{get, request, send, send_http2};
use weft_e2e::manifest::{service, service_on};
use weft_e2e::mesh::Mesh;

use crate::{PRODUCT, order_and_product, product};

/// Order calling a product of this protocol, with `extra` in its spec.
fn mesh_to(protocol: &str, app: SocketAddr, extra: &str) -> Mesh {
    let product = service_on(("http", protocol), "product", extra);
    let mut mesh = Mesh::new(&(product + &service("order", "")));
    mesh.add("product-0", &[("http", app)]);
    mesh.add("order-0", &[]);
    mesh
}

#[tokio::test]
async fn bodies_pass_unchanged_over_http1_and_http2() {
    let (mesh, _app) = order_and_product("").await;
    let outbound = mesh.outbound("order-0", PRODUCT);
    let body: String = ('a'..='z').cycle().take(100_000).collect();
    for http2 in [false, true] {
        let post = request("POST", "/x").body(Bytes::from(body.clone())).unwrap();
        let answer = if http2 { send_http2(outbound, post).await } else { send(outbound, post).await };
        assert_eq!(answer.seen().body, body);
    }
}

#[tokio::test]
async fn hop_by_hop_headers_stay_on_their_hop() {
    let (mesh, _app) = order_and_product("").await;
    let request = request("GET", "/x")
        .header("connection", "keep-alive, private")
        .header("private", "1")
        .header("keep-alive", "timeout=5")
        .header("te", "gzip")
        .header("x-public", "1");
    let seen = send(mesh.outbound("order-0", PRODUCT), request.body("".into()).unwrap()).await.seen();
    for name in ["private", "keep-alive", "te"] {
        assert!(!seen.headers.contains_key(name), "{name}: {seen:?}");
    }
    assert_eq!(seen.headers["x-public"], "1");
}

#[tokio::test]
async fn head_and_empty_answers_keep_the_connection_in_step() {
    let (mesh, _app) = order_and_product("").await;
    let mut stream = TcpStream::connect(mesh.outbound("order-0", PRODUCT)).await.unwrap();
    for method in ["HEAD", "GET", "HEAD", "GET"] {
        stream.write_all(format!("{method} /x HTTP/1.1\r\nhost: product\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = vec![0; 8192];
        let read = stream.read(&mut answer).await.unwrap();
        let text = String::from_utf8_lossy(&answer[..read]);
        assert!(text.starts_with("HTTP/1.1 200"), "{method}: {text}");
        assert_eq!(text.ends_with("\r\n\r\n"), method == "HEAD", "{method}: {text}");
    }
}

async fn grpc() -> (Mesh, GrpcApp, EchoClient<Channel>) {
    let app = GrpcApp::start().await;
    let mesh = mesh_to("GRPC", app.addr, "");
    let client = EchoClient::new(channel(&mesh).await);
    (mesh, app, client)
}

async fn channel(mesh: &Mesh) -> Channel {
    let url = format!("http://{}", mesh.outbound("order-0", PRODUCT));
    Channel::from_shared(url).unwrap().connect().await.unwrap()
}

fn message(text: &str) -> Message {
    Message { text: text.to_owned(), ..Message::default() }
}

#[tokio::test]
async fn grpc_unary_calls_carry_message_metadata_and_status() {
    let (_mesh, app, mut client) = grpc().await;
    let mut request = Request::new(message("hello"));
    request.metadata_mut().insert("x-shop", "1".parse().unwrap());
    assert_eq!(client.unary(request).await.unwrap().into_inner().text, "hello");
    assert_eq!(app.metadata()[0].get("x-shop").unwrap(), "1");
    let failing = Message { fail: Code::FailedPrecondition as u32, ..message("x") };
    let status = client.unary(failing).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "told to fail"));
}

#[tokio::test]
async fn grpc_streams_pass_both_ways() {
    let (_mesh, _app, mut client) = grpc().await;
    let many = Message { count: 500, ..message("x") };
    let answers: Vec<_> = client.server_stream(many).await.unwrap().into_inner().collect().await;
    assert_eq!(answers.len(), 500);
    assert!(answers.iter().all(Result::is_ok));
    let parts = tokio_stream::iter((0..500).map(|n| message(&n.to_string())));
    assert_eq!(client.client_stream(parts).await.unwrap().into_inner().count, 500);
    let (sender, receiver) = mpsc::channel(1);
    let mut answers = client.bidirectional(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    for n in 0..20 {
        // Each message is answered before the next is sent: nothing is buffered on the way.
        sender.send(message(&n.to_string())).await.unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap().text, n.to_string());
    }
    drop(sender);
    assert_eq!(answers.message().await.unwrap(), None);
}

#[tokio::test]
async fn a_refused_grpc_call_gets_a_grpc_status() {
    let app = GrpcApp::start().await;
    let mesh = mesh_to("GRPC", app.addr, "  authorization: {default: Deny, rules: []}");
    let status = EchoClient::new(channel(&mesh).await).unary(message("x")).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_eq!(status.metadata().get("x-weft-reason").unwrap(), "forbidden");
}

#[tokio::test]
async fn a_websocket_passes_and_survives_a_new_configuration() {
    let app = WebSocketApp::start().await;
    let mut mesh = mesh_to("HTTP", app.addr, "");
    let url = format!("ws://{}/chat", mesh.outbound("order-0", PRODUCT));
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    for round in 0..5 {
        let text = format!("message {round}");
        socket.send(WsMessage::text(text.clone())).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), WsMessage::text(text));
        mesh.apply(&product(&format!("  resilience: {{timeout: {}s}}", round + 1)));
        mesh.renew();
    }
    socket.close(None).await.unwrap();
}

#[tokio::test]
async fn tcp_passes_with_half_close() {
    let app = TcpApp::echo().await;
    let mesh = mesh_to("TCP", app.addr, "");
    let mut stream = TcpStream::connect(mesh.outbound("order-0", PRODUCT)).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "hellobye");
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_at_once() {
    let app = TcpApp::server_first().await;
    let mesh = mesh_to("TCP", app.addr, "");
    let mut stream = TcpStream::connect(mesh.outbound("order-0", PRODUCT)).await.unwrap();
    let mut greeting = vec![0; GREETING.len()];
    stream.read_exact(&mut greeting).await.unwrap();
    assert_eq!(greeting, GREETING);
}

#[tokio::test]
async fn an_instance_of_a_raw_port_is_ejected_by_failures_in_a_row_and_that_is_shown() {
    let extra = "  mtls: {mode: Permissive}
  resilience: {outlierDetection: {consecutiveFailures: 2, eject: 1h, maxEjectedPercent: 100}}";
    let product = service_on(("http", "TCP"), "product", extra);
    let mut mesh = Mesh::new(&(product + &service("order", "")));
    // No client's own address, so that nobody else gets the port while nothing listens there.
    let app = TcpListener::bind("127.77.0.1:0").await.unwrap();
    let place = app.local_addr().unwrap();
    mesh.add_bare("product-0", &[("http", place)]);
    mesh.add("order-0", &[]);
    let (outbound, page) = (mesh.outbound("order-0", PRODUCT), mesh.page("order-0", "metrics"));
    let fails = async || {
        let mut stream = TcpStream::connect(outbound).await.unwrap();
        stream.read_u8().await.expect_err("the connection is closed");
    };
    let ejected = async || {
        let text = get(page, "/metrics").await.text();
        let line = text.lines().find(|line| line.starts_with("weft_endpoints_ejected{")).unwrap_or_default();
        line.ends_with(" 1")
    };

    drop(app);
    fails().await;
    let app = TcpListener::bind(place).await.unwrap();
    let mut stream = TcpStream::connect(outbound).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    assert_eq!(app.accept().await.unwrap().0.read_u8().await.unwrap(), b'x');
    drop((app, stream));
    fails().await;
    assert!(!ejected().await, "it has served between the two failures");
    fails().await;
    assert!(ejected().await);
}
