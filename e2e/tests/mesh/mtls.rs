//! Mutual TLS: who is let in, who is not, and that certificates renew under a running connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use weft_api::spiffe::SpiffeId;
use weft_api::tls::{Identity, client_config};
use weft_core::ca::Ca;
use weft_e2e::client::{get, raw};
use weft_e2e::mesh::{certify, issue};
use weft_e2e::tokens::now;

use crate::{PRODUCT, order_and_product};

const REQUEST: &[u8] = b"GET /x HTTP/1.1\r\nhost: product\r\nconnection: close\r\n\r\n";

/// Dials an inbound listener with this identity and sends one request; the answer's text, or why there is none.
async fn dial(addr: SocketAddr, identity: &Identity) -> Result<String, std::io::Error> {
    let config = client_config(identity, &[b"http/1.1"]).unwrap();
    let name = ServerName::try_from("product.shop.svc").unwrap();
    let stream = TcpStream::connect(addr).await?;
    let mut tls = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    tls.write_all(REQUEST).await?;
    let mut answer = Vec::new();
    tls.read_to_end(&mut answer).await?;
    Ok(String::from_utf8(answer).unwrap())
}

fn other_authority() -> Ca {
    Ca::new("cluster.local", now(), Duration::from_hours(1)).unwrap()
}

#[tokio::test]
async fn a_request_passes_two_proxies_and_the_application_sees_it_once() {
    let (mesh, app) = order_and_product("").await;
    let answer = get(mesh.outbound("order-0", PRODUCT), "/products/7?full=1").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.seen().path, "/products/7?full=1");
    assert_eq!(app.count(), 1);
}

#[tokio::test]
async fn a_peer_of_the_mesh_is_let_in() {
    let (mesh, _app) = order_and_product("").await;
    let answer = dial(mesh.inbound("product-0", "http"), &mesh.identity("order")).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_peer_of_another_authority_is_refused_and_counted() {
    let (mesh, app) = order_and_product("").await;
    let mut stranger = issue(&other_authority(), &SpiffeId::new("cluster.local", "shop", "order").unwrap());
    stranger.roots = mesh.identity("order").roots;
    assert!(dial(mesh.inbound("product-0", "http"), &stranger).await.is_err());
    assert_eq!(app.count(), 0);
    let metrics = get(mesh.page("product-0", "metrics"), "/metrics").await.text();
    assert!(metrics.contains("weft_tls_handshake_failures_total{"), "{metrics}");
}

#[tokio::test]
async fn a_server_of_another_authority_gets_no_request() {
    let (mesh, app) = order_and_product("").await;
    let other = other_authority();
    let impostor = issue(&other, &SpiffeId::new("cluster.local", "shop", "product").unwrap());
    certify(mesh.proxy("product-0"), impostor);
    let answer = get(mesh.outbound("order-0", PRODUCT), "/x").await;
    assert!(answer.status.is_server_error(), "{}", answer.status);
    assert_eq!(app.count(), 0);
}

#[tokio::test]
async fn a_server_with_another_workloads_identity_gets_no_request() {
    let (mesh, app) = order_and_product("").await;
    certify(mesh.proxy("product-0"), mesh.identity("user"));
    let answer = get(mesh.outbound("order-0", PRODUCT), "/x").await;
    assert_eq!(answer.reason(), "peer-wrong-identity");
    assert_eq!(app.count(), 0);
}

#[tokio::test]
async fn an_expired_peer_is_refused() {
    let (mesh, app) = order_and_product("").await;
    let expired = mesh.expired_identity("order");
    assert!(dial(mesh.inbound("product-0", "http"), &expired).await.is_err());
    assert_eq!(app.count(), 0);
}

#[tokio::test]
async fn plaintext_is_refused_under_strict_and_let_in_under_permissive() {
    let (mut mesh, app) = order_and_product("").await;
    let inbound = mesh.inbound("product-0", "http");
    let refused = raw(inbound, REQUEST).await;
    assert!(!refused.contains(" 200 "), "{refused}");
    assert_eq!(app.count(), 0);
    mesh.apply(&crate::product("  mtls: {mode: Permissive}"));
    let answer = raw(inbound, REQUEST).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let over_tls = dial(inbound, &mesh.identity("order")).await.unwrap();
    assert!(over_tls.starts_with("HTTP/1.1 200"), "{over_tls}");
}

#[tokio::test]
async fn a_renewed_certificate_drops_no_connection() {
    let (mesh, app) = order_and_product("").await;
    let outbound = mesh.outbound("order-0", PRODUCT);
    let mut stream = TcpStream::connect(outbound).await.unwrap();
    for round in 0..5 {
        stream.write_all(b"GET /x HTTP/1.1\r\nhost: product\r\n\r\n").await.unwrap();
        let mut answer = [0; 4096];
        let read = stream.read(&mut answer).await.unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 200"), "round {round}");
        mesh.renew();
    }
    assert_eq!(get(outbound, "/x").await.status, 200);
    assert_eq!(app.count(), 6);
}
