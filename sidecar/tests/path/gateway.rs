//! Requests from outside, through a gateway to a sidecar to an application.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Request, StatusCode};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;
use weft_api::v1::{self, resource};
use weft_sidecar::app::{Handle, Proxy, Source};
use weft_sidecar::settings::{Mode, Settings};

use crate::policies::{authentication, keys, token};
use crate::support::{
    Ca, Client, DESTINATION, SERVER_ID, destination, echo, endpoints, inbound, read, resource, server,
};

const GATEWAY_ID: &str = "spiffe://cluster.local/ns/shop/sa/gateway";

fn to_product(filters: Vec<v1::Filter>) -> v1::Route {
    v1::Route {
        name: "shop/products/0".into(),
        matches: vec![prefix("/api")],
        backends: vec![v1::Backend { destination: DESTINATION.into(), weight: 1, ..Default::default() }],
        filters,
        ..Default::default()
    }
}

fn prefix(path: &str) -> v1::RouteMatch {
    let path = Some(v1::path_match::Path::Prefix(path.into()));
    v1::RouteMatch { path: Some(v1::PathMatch { path }), ..Default::default() }
}

fn filter(filter: v1::filter::Filter) -> v1::Filter {
    v1::Filter { filter: Some(filter) }
}

/// A gateway with these routes before an application.
async fn gateway(routes: Vec<v1::Route>, tls: Option<v1::ServerCertificate>) -> (Handle, Handle, SocketAddr) {
    gateway_to(destination(), routes, tls).await
}

async fn gateway_to(
    destination: v1::Destination,
    routes: Vec<v1::Route>,
    tls: Option<v1::ServerCertificate>,
) -> (Handle, Handle, SocketAddr) {
    let ca = Ca::new();
    let server = server(&ca.issue(SERVER_ID), inbound(echo().await));
    let endpoint = server.address("inbound/http").unwrap();
    let listener = v1::GatewayListener {
        name: "web".into(),
        listen: "127.0.0.1:0".into(),
        tls,
        hostname: String::new(),
        routes: "web".into(),
        passthrough: false,
    };
    let proxy = v1::Proxy { access_log: v1::AccessLog::Off.into(), ..Default::default() };
    let resources = vec![
        resource("self", resource::Body::Proxy(proxy)),
        resource(
            "self",
            resource::Body::Gateway(v1::Gateway { identity: GATEWAY_ID.into(), listeners: vec![listener] }),
        ),
        resource("web", resource::Body::Routes(v1::Routes { routes })),
        keys(),
        resource(DESTINATION, resource::Body::Destination(destination)),
        resource(DESTINATION, resource::Body::Endpoints(endpoints(&[endpoint]))),
    ];
    let settings = Settings { mode: Some(Mode::Gateway), ..Settings::in_process() };
    let gateway = Proxy::start(settings, Source::Static(resources, ca.issue(GATEWAY_ID))).unwrap();
    let to = gateway.address("gateway/web").unwrap();
    (gateway, server, to)
}

#[tokio::test]
async fn a_request_is_routed_and_what_only_the_mesh_may_say_is_removed() {
    let (_gateway, _server, to) = gateway(vec![to_product(Vec::new())], None).await;
    let request = Request::get("/api/x?y=1")
        .header("host", "shop.example.org")
        .header("x-weft-anything", "spoofed")
        .header("x-request-id", "spoofed")
        .header("x-forwarded-for", "203.0.113.9")
        .body(Full::default())
        .unwrap();
    let (answer, body) = read(Client::connect(to).await.send(request).await).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(body.starts_with("GET /api/x?y=1 HTTP/1.1\n"), "{body}");
    assert!(!body.contains("spoofed"), "{body}");
    assert!(body.contains("x-forwarded-for: 203.0.113.9, 127.0.0.1\n"), "{body}");
    assert!(body.contains("x-forwarded-proto: http\n"), "{body}");
    assert!(body.contains("host: shop.example.org\n"), "{body}");
}

#[tokio::test]
async fn no_route_is_404_and_no_backend_500() {
    let broken =
        v1::Route { matches: vec![prefix("/broken")], name: "shop/broken/0".into(), ..Default::default() };
    let (_gateway, _server, to) = gateway(vec![to_product(Vec::new()), broken], None).await;
    let mut client = Client::connect(to).await;
    assert_eq!(client.get("/nowhere").await.0.status(), StatusCode::NOT_FOUND);
    assert_eq!(client.get("/broken").await.0.status(), StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn filters_redirect_rewrite_and_edit() {
    let redirect = v1::Route {
        name: "shop/redirect/0".into(),
        matches: vec![prefix("/old")],
        filters: vec![filter(v1::filter::Filter::Redirect(v1::Redirect {
            host: "new.example.org".into(),
            status: 301,
            ..Default::default()
        }))],
        ..Default::default()
    };
    let value = |name: &str, value: &str| v1::HeaderValue { name: name.into(), value: value.into() };
    let edited = to_product(vec![
        filter(v1::filter::Filter::Rewrite(v1::Rewrite {
            host: "inner".into(),
            path: Some(v1::PathEdit { edit: Some(v1::path_edit::Edit::ReplacePrefix("/v2".into())) }),
        })),
        filter(v1::filter::Filter::RequestHeaders(v1::HeaderEdit {
            set: vec![value("x-set", "1")],
            ..Default::default()
        })),
        filter(v1::filter::Filter::ResponseHeaders(v1::HeaderEdit {
            add: vec![value("x-answered", "yes")],
            ..Default::default()
        })),
    ]);
    let (_gateway, _server, to) = gateway(vec![redirect, edited], None).await;
    let mut client = Client::connect(to).await;
    let (answer, _) = client.get("/old/page?q=1").await;
    assert_eq!(answer.status(), StatusCode::MOVED_PERMANENTLY);
    assert!(!answer.headers()["x-request-id"].is_empty());
    let location = answer.headers()["location"].to_str().unwrap();
    assert!(
        location.starts_with("http://new.example.org") && location.ends_with("/old/page?q=1"),
        "{location}"
    );
    let (answer, body) = client.get("/api/x?y=1").await;
    assert!(body.starts_with("GET /v2/x?y=1 "), "{body}");
    assert!(body.contains("host: inner\n") && body.contains("x-set: 1\n"), "{body}");
    assert_eq!(answer.headers()["x-answered"], "yes");
}

#[tokio::test]
async fn what_is_exempt_from_tokens_is_said_by_the_path_inside() {
    let inward = vec![filter(v1::filter::Filter::Rewrite(v1::Rewrite {
        path: Some(v1::PathEdit { edit: Some(v1::path_edit::Edit::ReplacePrefix("/open".into())) }),
        ..Default::default()
    }))];
    let provider =
        v1::JwtProvider { issuer: "https://user".into(), keys: "user".into(), ..Default::default() };
    let authentication = v1::Authentication {
        providers: vec![provider],
        required: true,
        exempt: vec![v1::RequestMatch { paths: vec!["/open*".into()], ..Default::default() }],
    };
    for (filters, expect) in [(inward, StatusCode::OK), (Vec::new(), StatusCode::UNAUTHORIZED)] {
        let destination = v1::Destination { authentication: Some(authentication.clone()), ..destination() };
        let (_gateway, _server, to) = gateway_to(destination, vec![to_product(filters)], None).await;
        assert_eq!(Client::connect(to).await.get("/api/page").await.0.status(), expect);
    }
}

fn certificate(name: &str) -> (v1::ServerCertificate, CertificateDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    let wire = v1::ServerCertificate { chain: certificate.pem(), key: key.serialize_pem() };
    (wire, certificate.der().clone())
}

#[tokio::test]
async fn tls_from_outside_ends_at_the_gateway() {
    let (wire, root) = certificate("shop.example.org");
    let (_gateway, _server, to) = gateway(vec![to_product(Vec::new())], Some(wire)).await;
    let mut roots = RootCertStore::empty();
    roots.add(root).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(weft_api::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(to).await.unwrap();
    let stream = connector.connect("shop.example.org".try_into().unwrap(), stream).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    TaskTracker::new().spawn(async move { drop(connection.await) });
    let request =
        Request::get("/api").header("host", "shop.example.org").body(Full::<bytes::Bytes>::default());
    let (answer, body) = read(sender.send_request(request.unwrap()).await.unwrap()).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(body.contains("x-forwarded-proto: https\n"), "{body}");
}

#[tokio::test]
async fn tokens_are_checked_at_the_edge_already_and_passed_on() {
    let guarded = v1::Destination { authentication: Some(authentication()), ..destination() };
    let (_gateway, server, to) = gateway_to(guarded, vec![to_product(Vec::new())], None).await;
    let mut client = Client::connect(to).await;
    let (answer, _) = client.get("/api").await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(answer.headers()["x-weft-reason"], "jwt-missing");
    assert_eq!(server.shared.open_connections.load(std::sync::atomic::Ordering::Relaxed), 0);
    let bearer = format!("Bearer {}", token("customer", 60));
    let request = Request::get("/api").header("host", "a").header("authorization", &bearer);
    let (answer, body) = read(client.send(request.body(Full::default()).unwrap()).await).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(body.contains(&format!("authorization: {bearer}\n")), "{body}");
}
