//! A small operator: an authority, the identity service, and the configuration service whose every message the test
//! sends and reads itself. The real wire, the real TLS; only the decisions are the test's.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};
use weft_api::names::ALPN_H2;
use weft_api::tls::{ClientAuth, Identity, server_config};
use weft_api::v1::config_request::Body;
use weft_api::v1::config_server::{Config, ConfigServer};
use weft_api::v1::identity_server::{Identity as IdentityApi, IdentityServer};
use weft_api::v1::{ConfigRequest, Delta, Hello, Report, SignRequest, SignResponse};

/// Every wait of a test ends here.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
pub(crate) const TOKEN: &str = "join-token";
pub(crate) const OPERATOR: &str = "spiffe://cluster.local/ns/weft-system/sa/weft-operator";
/// How long certificates live, in seconds.
const HOUR: i64 = 3600;

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// What the identity service answers with, changeable while it runs.
pub(crate) struct Signing {
    pub(crate) issuer: Issuer,
    /// The roots it hands out, DER.
    pub(crate) roots: Vec<Vec<u8>>,
    /// SPIFFE id to put into certificates.
    pub(crate) id: String,
    /// Seconds until the proxy shall renew.
    pub(crate) renew_in: i64,
    pub(crate) signed: u32,
    /// Which roots it hands out.
    pub(crate) roots_number: i64,
}

#[derive(Clone)]
pub(crate) struct Operator {
    pub(crate) address: SocketAddr,
    pub(crate) signing: Arc<Mutex<Signing>>,
    pub(crate) roots_pem: String,
    server: Arc<Server>,
}

struct Server {
    streams: tokio::sync::Mutex<mpsc::Receiver<Stream>>,
    tasks: Mutex<JoinSet<()>>,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
}

/// One configuration stream, the operator's end.
pub(crate) struct Stream {
    pub(crate) hello: Hello,
    messages: Streaming<ConfigRequest>,
    deltas: mpsc::Sender<Result<Delta, Status>>,
}

pub(crate) fn authority(name: &str) -> Issuer {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn leaf(uri: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(uri.try_into().unwrap())];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let now = now();
    params.not_before =
        (std::time::UNIX_EPOCH + Duration::from_secs(u64::try_from(now - 60).unwrap())).into();
    params.not_after =
        (std::time::UNIX_EPOCH + Duration::from_secs(u64::try_from(now + HOUR).unwrap())).into();
    params
}

fn now() -> i64 {
    weft_sidecar::telemetry::clock::unix_now()
}

impl Operator {
    /// An operator that is who it should be.
    pub(crate) async fn start() -> Self {
        Self::start_as(OPERATOR, "127.0.0.1:0".parse().unwrap(), authority("weft")).await
    }

    /// A server at this address with this identity, signed by this authority, which also signs for others.
    pub(crate) async fn start_as(id: &str, address: SocketAddr, issuer: Issuer) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = leaf(id).signed_by(&key, &issuer).unwrap();
        let root = issuer.der().clone();
        let identity = Identity {
            chain: vec![certificate.der().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            roots: vec![root.clone()],
        };
        let tls = server_config(&identity, ClientAuth::Optional, &[ALPN_H2]).unwrap();
        let roots_pem = issuer.pem();
        let signing = Arc::new(Mutex::new(Signing {
            issuer,
            roots: vec![root.to_vec()],
            id: "spiffe://cluster.local/ns/shop/sa/order".to_owned(),
            renew_in: HOUR / 2,
            signed: 0,
            roots_number: 1,
        }));
        let (opened, streams) = mpsc::channel(8);
        let routes = Routes::new(IdentityServer::new(IdentityService { signing: Arc::clone(&signing) }))
            .add_service(ConfigServer::new(ConfigService { opened }))
            .prepare();
        let listener = listen(address).await;
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, TlsAcceptor::from(Arc::new(tls)), routes, Arc::clone(&connections)));
        let server =
            Server { streams: tokio::sync::Mutex::new(streams), tasks: Mutex::new(tasks), connections };
        Self { address, signing, roots_pem, server: Arc::new(server) }
    }

    /// The next configuration stream, after its Hello.
    pub(crate) async fn stream(&self) -> Stream {
        timeout(DEADLINE, async { self.server.streams.lock().await.recv().await })
            .await
            .expect("no proxy subscribed in time")
            .unwrap()
    }

    /// Stops listening and cuts all connections.
    pub(crate) fn kill(&self) {
        self.server.tasks.lock().unwrap().abort_all();
        self.server.connections.lock().unwrap().drain(..).for_each(|connection| connection.abort());
    }

    pub(crate) fn signed(&self) -> u32 {
        self.signing.lock().unwrap().signed
    }
}

/// The port of an operator that has just been killed may take a moment to be free again.
async fn listen(address: SocketAddr) -> TcpListener {
    let bind = async {
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => return listener,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    timeout(DEADLINE, bind).await.expect("address stays in use")
}

async fn accept(
    listener: TcpListener,
    tls: TlsAcceptor,
    routes: Routes,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
) {
    let mut served = JoinSet::new();
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let (tls, routes) = (tls.clone(), routes.clone());
        let handle = served.spawn(async move {
            let Ok(stream) = tls.accept(tcp).await else { return };
            let connection = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
            drop(connection.await);
        });
        connections.lock().unwrap().push(handle);
    }
}

impl Stream {
    pub(crate) async fn send(&self, delta: Delta) {
        self.deltas.send(Ok(delta)).await.unwrap();
    }

    /// The next message that is not a report.
    pub(crate) async fn next(&mut self) -> Body {
        loop {
            match self.any().await {
                Body::Report(_) => {}
                body => return body,
            }
        }
    }

    /// The next report that fulfils the condition.
    pub(crate) async fn report(&mut self, wanted: impl Fn(&Report) -> bool) -> Report {
        loop {
            match self.any().await {
                Body::Report(report) if wanted(&report) => return report,
                _ => {}
            }
        }
    }

    async fn any(&mut self) -> Body {
        let message = timeout(DEADLINE, self.messages.message()).await.expect("the proxy says nothing");
        message.unwrap().expect("the proxy closed the stream").body.unwrap()
    }

    pub(crate) async fn acked(&mut self, nonce: &str) {
        match self.next().await {
            Body::Ack(ack) => assert_eq!(ack.nonce, nonce),
            other => panic!("expected an ack, got {other:?}"),
        }
    }
}

struct IdentityService {
    signing: Arc<Mutex<Signing>>,
}

#[tonic::async_trait]
impl IdentityApi for IdentityService {
    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let request = request.into_inner();
        if request.token != TOKEN {
            return Err(Status::unauthenticated("the token is not valid"));
        }
        let mut signing = self.signing.lock().unwrap();
        let mut csr = CertificateSigningRequestParams::from_der(&request.csr.into())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        csr.params = leaf(&signing.id);
        let certificate = csr.signed_by(&signing.issuer).unwrap();
        signing.signed += 1;
        Ok(Response::new(SignResponse {
            chain: vec![certificate.der().to_vec()],
            roots: signing.roots.clone(),
            not_after: now() + HOUR,
            not_before: now() - 60,
            renew_at: now() + signing.renew_in,
            roots_number: signing.roots_number,
        }))
    }
}

struct ConfigService {
    opened: mpsc::Sender<Stream>,
}

#[tonic::async_trait]
impl Config for ConfigService {
    type SubscribeStream = ReceiverStream<Result<Delta, Status>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<ConfigRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let mut messages = request.into_inner();
        let first = messages.message().await?.and_then(|message| message.body);
        let Some(Body::Hello(hello)) = first else { return Err(Status::invalid_argument("no Hello")) };
        let (deltas, stream) = mpsc::channel(8);
        self.opened.send(Stream { hello, messages, deltas }).await.unwrap();
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
