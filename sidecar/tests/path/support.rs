//! A mesh in one process: a certificate authority, an application, and proxies on ports the system chooses.

use std::convert::Infallible;
use std::fmt::Write;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use weft_api::tls::Identity;
use weft_api::v1::{self, resource};
use weft_sidecar::app::{Handle, Proxy, Source};
use weft_sidecar::settings::Settings;

/// Nothing here takes longer unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const SERVER_ID: &str = "spiffe://cluster.local/ns/shop/sa/product";
pub(crate) const CLIENT_ID: &str = "spiffe://cluster.local/ns/shop/sa/order";
pub(crate) const DESTINATION: &str = "shop/product:http";

pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    root: rustls_pki_types::CertificateDer<'static>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), root }
    }

    pub(crate) fn issue(&self, id: &str) -> Arc<Identity> {
        self.issue_with(id, |_| {})
    }

    pub(crate) fn issue_with(&self, id: &str, edit: impl FnOnce(&mut CertificateParams)) -> Arc<Identity> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names.push(SanType::URI(id.try_into().unwrap()));
        edit(&mut params);
        let leaf = params.signed_by(&key, &self.issuer).unwrap().der().clone();
        Arc::new(Identity {
            chain: vec![leaf],
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            roots: vec![self.root.clone()],
        })
    }
}

/// An application: every request goes to this handler, HTTP/1.1 and HTTP/2 alike.
pub(crate) async fn app<H, F, B>(handler: H) -> SocketAddr
where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tracker = TaskTracker::new();
    let tasks = tracker.clone();
    tracker.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tasks.spawn(serve(stream, handler.clone()));
        }
    });
    address
}

async fn serve<H, F, B>(stream: TcpStream, handler: H)
where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = handler(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    drop(builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await);
}

/// Waits until this holds.
pub(crate) async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("it comes true in time");
}

/// An application that says what it was asked.
pub(crate) async fn echo() -> SocketAddr {
    app(|request: Request<Incoming>| async move {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let mut text = format!("{} {} {:?}\n", parts.method, parts.uri, parts.version);
        for (name, value) in &parts.headers {
            writeln!(text, "{name}: {}", value.to_str().unwrap_or("?")).unwrap();
        }
        write!(text, "\n{}", String::from_utf8_lossy(&body)).unwrap();
        Response::new(Full::new(Bytes::from(text)))
    })
    .await
}

pub(crate) fn resource(name: &str, body: resource::Body) -> v1::Resource {
    let version = format!("{body:?}");
    v1::Resource { name: name.into(), version, body: Some(body) }
}

pub(crate) fn inbound(app: SocketAddr) -> v1::Inbound {
    v1::Inbound {
        identity: SERVER_ID.into(),
        ports: vec![v1::InboundPort {
            name: "http".into(),
            protocol: v1::Protocol::Http.into(),
            listen: "127.0.0.1:0".into(),
            app: app.to_string(),
            port: 80,
        }],
        mtls: v1::MtlsMode::Strict.into(),
        ..Default::default()
    }
}

pub(crate) fn destination() -> v1::Destination {
    v1::Destination {
        protocol: v1::Protocol::Http.into(),
        mtls: Some(v1::Mtls { identities: vec![SERVER_ID.into()], server_name: "product.shop.svc".into() }),
        hosts: vec!["product".into()],
        service: "shop/product".into(),
        port: 80,
        ..Default::default()
    }
}

pub(crate) fn endpoints(addresses: &[SocketAddr]) -> v1::Endpoints {
    let endpoint = |(index, address): (usize, &SocketAddr)| v1::Endpoint {
        address: address.to_string(),
        instance: format!("product-{index}"),
        meshed: true,
        ..Default::default()
    };
    v1::Endpoints { endpoints: addresses.iter().enumerate().map(endpoint).collect() }
}

/// Starts the proxy beside an application.
pub(crate) fn server(identity: &Arc<Identity>, inbound: v1::Inbound) -> Handle {
    let access_log = v1::AccessLog::Off.into();
    let proxy = v1::Proxy { service: "shop/product".into(), access_log, ..Default::default() };
    let resources = vec![
        resource("self", resource::Body::Proxy(proxy)),
        resource("self", resource::Body::Inbound(inbound)),
    ];
    Proxy::start(Settings::in_process(), Source::Static(resources, Arc::clone(identity))).unwrap()
}

/// Configuration of a proxy that calls one destination.
pub(crate) fn calling(destination: &v1::Destination, endpoints: &v1::Endpoints) -> Vec<v1::Resource> {
    let listener = v1::OutboundListener {
        listen: "127.0.0.1:0".into(),
        destination: DESTINATION.into(),
        protocol: destination.protocol,
    };
    let access_log = v1::AccessLog::Off.into();
    let outbound = vec![listener];
    let proxy = v1::Proxy { service: "shop/order".into(), access_log, outbound, ..Default::default() };
    vec![
        resource("self", resource::Body::Proxy(proxy)),
        resource(DESTINATION, resource::Body::Destination(destination.clone())),
        resource(DESTINATION, resource::Body::Endpoints(endpoints.clone())),
    ]
}

/// Starts a proxy that calls one destination.
pub(crate) fn client(identity: &Arc<Identity>, resources: Vec<v1::Resource>) -> Handle {
    Proxy::start(Settings::in_process(), Source::Static(resources, Arc::clone(identity))).unwrap()
}

/// Two proxies in a row before an application.
pub(crate) struct Pair {
    pub(crate) client: Handle,
    pub(crate) server: Handle,
    pub(crate) to: SocketAddr,
}

pub(crate) fn pair(app: SocketAddr) -> Pair {
    pair_with(app, |_, _| {})
}

pub(crate) fn pair_with(app: SocketAddr, edit: impl FnOnce(&mut v1::Inbound, &mut v1::Destination)) -> Pair {
    let ca = Ca::new();
    let (mut inbound, mut destination) = (inbound(app), destination());
    edit(&mut inbound, &mut destination);
    let server = server(&ca.issue(SERVER_ID), inbound);
    let endpoint = server.address("inbound/http").unwrap();
    let client = client(&ca.issue(CLIENT_ID), calling(&destination, &endpoints(&[endpoint])));
    let to = client.address(&format!("outbound/{DESTINATION}")).unwrap();
    Pair { client, server, to }
}

/// Sends these bytes and reads until the other end closes or nothing more comes for as long as `quiet` says.
pub(crate) async fn raw(to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is a close too: the other end did not read everything.
    drop(timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap_or_else(|_| {
        panic!("the connection stays open after {:?}", String::from_utf8_lossy(&answer))
    }));
    String::from_utf8_lossy(&answer).into_owned()
}

/// One HTTP/1.1 client connection.
pub(crate) struct Client {
    sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
}

impl Client {
    pub(crate) async fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).await.unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let tasks = TaskTracker::new();
        tasks.spawn(async move { drop(connection.with_upgrades().await) });
        Self { sender }
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        self.sender.ready().await.unwrap();
        timeout(PATIENCE, self.sender.send_request(request)).await.expect("an answer in time").unwrap()
    }

    pub(crate) async fn get(&mut self, path: &str) -> (Response<()>, String) {
        let request = Request::get(path).header("host", "product").body(Full::default()).unwrap();
        read(self.send(request).await).await
    }

    pub(crate) async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> (Response<()>, String) {
        let request = Request::post(path).header("host", "product").body(Full::new(body.into())).unwrap();
        read(self.send(request).await).await
    }
}

pub(crate) async fn read(answer: Response<Incoming>) -> (Response<()>, String) {
    let (parts, body) = answer.into_parts();
    let body = timeout(PATIENCE, body.collect()).await.expect("a body in time").unwrap().to_bytes();
    (Response::from_parts(parts, ()), String::from_utf8_lossy(&body).into_owned())
}
