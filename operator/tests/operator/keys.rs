//! Key sets: fetched by the operator from a real server, pushed to proxies, kept when the server goes away.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use weft_api::names::ALPN_HTTP1;
use weft_api::status::KeysStatus;
use weft_api::tls::{self, ClientAuth, Identity};
use weft_api::v1::resource::Body;
use weft_api::v1::{Keys, Kind, Resource};
use weft_core::instances::Instance;

use crate::harness::{MESH, ORDER, Operator, USER, hello, instance};

const JWKS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"one","x":"x","y":"y"}]}"#;

/// Orders take tokens whose keys are at `uri`.
fn order_with_keys(uri: &str) -> String {
    let jwt = format!(
        "  authentication:
    jwt:
    - issuer: https://user.shop.example
      audiences: [shop]
      jwks: {{uri: \"{uri}\"}}
"
    );
    ORDER.to_owned() + &jwt
}

async fn shop_with_keys(uri: &str, instances: &[Instance]) -> Operator {
    let order = order_with_keys(uri);
    Operator::serving(&[("mesh.yaml", MESH), ("user.yaml", USER), ("order.yaml", &order)], instances).await
}

fn keys(resource: &Resource) -> &Keys {
    match &resource.body {
        Some(Body::Keys(keys)) => keys,
        other => panic!("no keys: {other:?}"),
    }
}

/// Serves the key set until dropped: plain, or to the operator only with the identity given.
fn serve(listener: TcpListener, identity: Option<Identity>) -> JoinSet<()> {
    let acceptor = identity.map(|identity| {
        let config = tls::server_config(&identity, ClientAuth::Required, &[ALPN_HTTP1]).unwrap();
        TlsAcceptor::from(Arc::new(config))
    });
    let mut server = JoinSet::new();
    server.spawn(async move {
        let answer =
            service_fn(async |_| Ok::<_, std::io::Error>(http::Response::new(Full::<Bytes>::from(JWKS))));
        let http = hyper::server::conn::http1::Builder::new();
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let Some(acceptor) = &acceptor else {
                drop(http.serve_connection(TokioIo::new(tcp), answer).await);
                continue;
            };
            let Ok(tls) = acceptor.accept(tcp).await else { continue };
            let peer = tls::peer_identity(tls.get_ref().1.peer_certificates()).unwrap();
            assert_eq!(peer.as_str(), "spiffe://mesh.test/ns/weft-system/sa/weft-operator");
            drop(http.serve_connection(TokioIo::new(tls), answer).await);
        }
    });
    server
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

#[tokio::test]
async fn keys_are_fetched_pushed_and_kept_while_their_server_is_away() {
    let (listener, addr) = listen().await;
    let server = serve(listener, None);
    let uri = format!("http://{addr}/keys");
    let operator = shop_with_keys(&uri, &[instance("order", 0)]).await;
    let mut proxy = operator.proxy("order", 0).await;
    let fetched = proxy.until(Kind::Keys, &uri, |resource| !keys(resource).jwks.is_empty()).await;
    assert_eq!((keys(&fetched).jwks.as_str(), keys(&fetched).error.as_str()), (JWKS, ""));
    assert!(keys(&fetched).fetched_at > 0);
    assert!(operator.metric("weft_operator_jwks_fetch_total{outcome=\"ok\"}").await > 0.0);

    let operator = operator.restart().await;
    let status = operator.status().await;
    assert_eq!(status.keys.len(), 1, "another operator shows what it kept");
    assert!(status.keys[0].fetched > 0, "{status:?}");

    drop(server);
    let operator = operator.restart().await;
    let failed = |keys: &KeysStatus| keys.fetched > 0 && keys.error.contains(&addr.to_string());
    operator.until("a failed fetch", |status| status.keys.iter().any(failed)).await;
    let mut proxy = operator.proxy_with(hello("order", 0)).await;
    let kept = proxy.until(Kind::Keys, &uri, |_| true).await;
    assert_eq!(keys(&kept).jwks, JWKS, "another operator still has the last good keys");
}

#[tokio::test]
async fn keys_never_fetched_hold_up_no_configuration_and_say_why() {
    let (listener, addr) = listen().await;
    drop(listener);
    let uri = format!("http://{addr}/keys");
    let operator = shop_with_keys(&uri, &[instance("order", 0)]).await;
    let mut proxy = operator.proxy("order", 0).await;
    proxy.until(Kind::Inbound, "self", |_| true).await;
    let missing = proxy.until(Kind::Keys, &uri, |resource| keys(resource).error.contains(&uri)).await;
    assert!(keys(&missing).jwks.is_empty(), "{missing:?}");

    let listener = TcpListener::bind(addr).await.unwrap();
    let _server = serve(listener, None);
    proxy.until(Kind::Keys, &uri, |resource| keys(resource).jwks == JWKS).await;
}

/// The instance of user that is reached there, before it is ready.
fn unready_user(addr: SocketAddr) -> Instance {
    let mut user = instance("user", 0);
    user.ports.get_mut("http").unwrap().peers = addr;
    user.ready = false;
    user
}

#[tokio::test]
async fn keys_of_a_mesh_service_come_over_mutual_tls_as_soon_as_it_is_ready() {
    const URI: &str = "http://user.shop.svc/.well-known/jwks.json";
    let (listener, addr) = listen().await;
    let mut user = unready_user(addr);
    let operator = shop_with_keys(URI, &[user.clone(), instance("order", 0)]).await;
    let no_instance = |keys: &KeysStatus| keys.error.contains("shop/user:http has no ready instance");
    operator.until("the reason", |status| status.keys.iter().any(no_instance)).await;

    let _server = serve(listener, Some(operator.identity("user", 0).await));
    user.ready = true;
    operator.write_instances(&[user, instance("order", 0)]);
    operator.until("the keys", |status| status.keys.iter().any(|keys| keys.fetched > 0)).await;
}

#[tokio::test]
async fn keys_from_another_workload_than_the_one_named_are_refused() {
    const URI: &str = "http://user.shop.svc/.well-known/jwks.json";
    let (listener, addr) = listen().await;
    let mut user = unready_user(addr);
    let operator = shop_with_keys(URI, &[user.clone(), instance("order", 0)]).await;
    let _impostor = serve(listener, Some(operator.identity("order", 0).await));
    user.ready = true;
    operator.write_instances(&[user, instance("order", 0)]);
    let refused = |keys: &KeysStatus| keys.fetched == 0 && keys.error.contains("sa/order");
    operator.until("the refusal", |status| status.keys.iter().any(refused)).await;
}
