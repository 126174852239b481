//! Answers before the final one (1xx, RFC 9110, section 15.2) through a gateway and three sidecars.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use weft_e2e::apps::listen;
use weft_e2e::client::{request, send_http2};
use weft_e2e::manifest::{gateway, http_route, service};
use weft_e2e::mesh::Mesh;

use crate::hygiene::{talk, until};

/// Two answers before the final one, with fields that concern one hop.
const EARLY: &[u8] =
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nconnection: x-private\r\n\
      x-private: 1\r\nlink: </a.css>; rel=preload\r\nlink: </b.js>; rel=preload\r\n\r\n";

/// Answers each request with [`EARLY`], and with the final answer once it may.
struct Origin {
    address: SocketAddr,
    may_answer: Arc<Semaphore>,
    _tasks: JoinSet<()>,
}

impl Origin {
    async fn start() -> Self {
        let may_answer = Arc::new(Semaphore::new(0));
        let gate = Arc::clone(&may_answer);
        let (address, tasks) = listen(move |stream| answer(stream, Arc::clone(&gate))).await;
        Self { address, may_answer, _tasks: tasks }
    }
}

async fn answer(mut stream: TcpStream, gate: Arc<Semaphore>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.unwrap() == 0 {
            return;
        }
    }
    stream.write_all(EARLY).await.unwrap();
    gate.acquire().await.unwrap().forget();
    let last = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\ndone";
    stream.write_all(last).await.unwrap();
}

/// A gateway before `web`, whose application is nothing but the outbound side of a sidecar that calls `product`.
async fn path() -> (Mesh, Origin) {
    let origin = Origin::start().await;
    let manifests = [
        service("product", ""),
        service("back", ""),
        service("web", ""),
        gateway(&["{name: http, port: 8080, protocol: HTTP}"]),
        http_route("  - {backendRefs: [{name: web, port: 80}]}"),
    ];
    let mut mesh = Mesh::new(&manifests.concat());
    mesh.add("product-0", &[("http", origin.address)]);
    mesh.add("back-0", &[]);
    mesh.add("web-0", &[("http", mesh.outbound("back-0", "shop/product:http"))]);
    mesh.add_gateway("public-0", &["http"]);
    (mesh, origin)
}

#[tokio::test]
async fn early_hints_reach_the_client_while_the_application_still_works() {
    let (mesh, origin) = path().await;
    let mut client = TcpStream::connect(mesh.listener("public-0", "http")).await.unwrap();
    client.write_all(b"GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let early = until(&mut client, "rel=preload\r\n\r\n").await;
    let expect = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\
                  link: </b.js>; rel=preload\r\n\r\n";
    assert_eq!(early, expect, "each once, without what concerns a hop, and before there is a final answer");
    origin.may_answer.add_permits(1);
    let last = until(&mut client, "done").await;
    assert!(last.starts_with("HTTP/1.1 200 OK\r\n"), "{last}");
}

#[tokio::test]
async fn clients_that_know_no_early_answers_see_only_the_final_one() {
    let (mesh, origin) = path().await;
    origin.may_answer.add_permits(2);
    let to = mesh.listener("public-0", "http");
    let mut old = TcpStream::connect(to).await.unwrap();
    let answer = talk(&mut old, b"GET /x HTTP/1.0\r\nhost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("done"), "{answer}");
    let answer = send_http2(to, request("GET", "/x").body("".into()).unwrap()).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"done"[..]));
}
