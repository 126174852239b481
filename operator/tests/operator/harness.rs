//! An operator on a temporary directory, and a proxy as raw as it gets: a gRPC client that does what the test says.
//! Everything waits for a condition with a deadline.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};
use weft_api::names::ALPN_H2;
use weft_api::status::MeshStatus;
use weft_api::tls::{self, Identity};
use weft_api::v1::config_client::ConfigClient;
use weft_api::v1::config_request::Body;
use weft_api::v1::identity_client::IdentityClient;
use weft_api::v1::{
    Ack, ConfigRequest, Delta, Hello, Kind, Nack, Resource, ResourceError, ResourceVersion, SignRequest,
    SignResponse, Want,
};
use weft_core::instances::{Instance, Instances, PortAddresses, Role};
use weft_operator::app::{self, Bound};
use weft_operator::settings::Settings;

/// Longer than anything takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) const MESH: &str = "
apiVersion: weft.dev/v1alpha1
kind: Mesh
metadata: {name: default}
spec: {trustDomain: mesh.test}
";

pub(crate) const USER: &str = "
apiVersion: weft.dev/v1alpha1
kind: Microservice
metadata: {name: user, namespace: shop}
spec:
  ports: [{name: http, port: 80, targetPort: 8080, protocol: HTTP}]
";

pub(crate) const ORDER: &str = "
apiVersion: weft.dev/v1alpha1
kind: Microservice
metadata: {name: order, namespace: shop}
spec:
  ports: [{name: http, port: 80, targetPort: 8080, protocol: HTTP}]
";

/// A running operator and its folders.
pub(crate) struct Operator {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) bound: Bound,
    stopping: CancellationToken,
    task: JoinSet<anyhow::Result<()>>,
}

impl Operator {
    /// An operator of a shop with users and orders, one instance each, that serves.
    pub(crate) async fn of_shop() -> Self {
        let files = [("mesh.yaml", MESH), ("user.yaml", USER), ("order.yaml", ORDER)];
        Self::serving(&files, &[instance("user", 0), instance("order", 0)]).await
    }

    /// An operator on these files that serves.
    pub(crate) async fn serving(files: &[(&str, &str)], instances: &[Instance]) -> Self {
        let folder = folder(files, instances);
        let mut operator = Self::start(folder).await;
        operator.until_ready().await;
        operator
    }

    /// An operator that need not serve yet.
    pub(crate) async fn start(folder: tempfile::TempDir) -> Self {
        Self::start_with(folder, |_| {}).await
    }

    pub(crate) async fn start_with(folder: tempfile::TempDir, adapt: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::for_dir(folder.path().join("shop"), folder.path().join("state"));
        adapt(&mut settings);
        let stopping = CancellationToken::new();
        let (say, bound) = oneshot::channel();
        let mut task = JoinSet::new();
        task.spawn(app::run(settings, say, stopping.clone()));
        let bound = within("bound addresses", bound).await.unwrap();
        Self { folder, bound, stopping, task }
    }

    pub(crate) async fn until_ready(&mut self) {
        let ready = self.bound.ready.wait_for(|ready| *ready);
        within("ready", ready).await.unwrap();
    }

    /// Stops it; everything must end by itself.
    pub(crate) async fn stop(mut self) -> tempfile::TempDir {
        self.stopping.cancel();
        within("the end", self.task.join_next()).await.unwrap().unwrap().unwrap();
        self.folder
    }

    /// Another operator on the same folders.
    pub(crate) async fn restart(self) -> Self {
        let mut operator = Self::start(self.stop().await).await;
        operator.until_ready().await;
        operator
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join("shop").join(name), text).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        std::fs::remove_file(self.folder.path().join("shop").join(name)).unwrap();
    }

    pub(crate) fn write_instances(&self, instances: &[Instance]) {
        write_instances(&self.folder.path().join("state"), instances);
    }

    /// The status once it is as wanted.
    pub(crate) async fn until(&self, what: &str, is: impl Fn(&MeshStatus) -> bool) -> MeshStatus {
        let mut look = tokio::time::interval(Duration::from_millis(20));
        let until = tokio::time::Instant::now() + DEADLINE;
        loop {
            let status = self.status().await;
            if is(&status) {
                return status;
            }
            assert!(look.tick().await < until, "{what} did not come: {status:#?}");
        }
    }

    pub(crate) async fn status(&self) -> MeshStatus {
        let (code, body) = self.admin("/status.json").await;
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Status code and body of an admin page.
    pub(crate) async fn admin(&self, path: &str) -> (u16, String) {
        let tcp = TcpStream::connect(self.bound.admin).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.unwrap();
        let request = http::Request::get(path).header("host", "admin").body(Empty::<Bytes>::new()).unwrap();
        let exchange = async move {
            let answer = sender.send_request(request).await.unwrap();
            let code = answer.status().as_u16();
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            (code, String::from_utf8(body.to_vec()).unwrap())
        };
        let (answer, _) = within("admin", async { tokio::join!(exchange, connection) }).await;
        answer
    }

    /// The value of a metric, with its labels as written.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.admin("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    pub(crate) fn roots(&self) -> Vec<CertificateDer<'static>> {
        let pem = std::fs::read(self.folder.path().join("state/roots.pem")).unwrap();
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().unwrap()
    }

    /// Asks for a certificate with the token of an instance.
    pub(crate) async fn sign(&self, workload: &str, token: &str, csr: &[u8]) -> Result<SignResponse, Status> {
        let nobody =
            Identity { chain: vec![], key: PrivateKeyDer::Pkcs8(vec![].into()), roots: self.roots() };
        let channel = channel(self.bound.grpc, nobody).await.unwrap();
        let request = SignRequest { csr: csr.to_vec(), workload: workload.into(), token: token.into() };
        within("Sign", IdentityClient::new(channel).sign(request)).await.map(tonic::Response::into_inner)
    }

    /// The identity of an instance of a service.
    pub(crate) async fn identity(&self, service: &str, number: u8) -> Identity {
        let (key, csr) = request();
        let token = token(&format!("{service}-{number}"));
        let signed = self.sign(&format!("shop/{service}"), &token, &csr).await.unwrap();
        let ders = |ders: Vec<Vec<u8>>| ders.into_iter().map(CertificateDer::from).collect();
        Identity { chain: ders(signed.chain), key, roots: ders(signed.roots) }
    }

    /// A proxy of an instance that has subscribed.
    pub(crate) async fn proxy(&self, service: &str, number: u8) -> Proxy {
        self.proxy_with(hello(service, number)).await
    }

    pub(crate) async fn proxy_with(&self, hello: Hello) -> Proxy {
        let (service, number) = hello.instance.rsplit_once('-').unwrap();
        let identity = self.identity(service, number.parse().unwrap()).await;
        Proxy::open(self.bound.grpc, identity, hello).await
    }
}

/// A proxy without a mind of its own.
pub(crate) struct Proxy {
    say: mpsc::Sender<ConfigRequest>,
    deltas: Result<Streaming<Delta>, Status>,
    /// What it has acked.
    pub(crate) held: BTreeMap<(Kind, String), Resource>,
    questions: u32,
}

impl Proxy {
    pub(crate) async fn open(operator: SocketAddr, identity: Identity, hello: Hello) -> Self {
        let channel = channel(operator, identity).await.unwrap();
        let (say, said) = mpsc::channel(16);
        say.send(ConfigRequest { body: Some(Body::Hello(hello)) }).await.unwrap();
        let call = ConfigClient::new(channel);
        let mut call = call.max_decoding_message_size(8 << 20);
        let deltas = within("Subscribe", call.subscribe(ReceiverStream::new(said))).await;
        Self { say, deltas: deltas.map(tonic::Response::into_inner), held: BTreeMap::new(), questions: 0 }
    }

    pub(crate) async fn say(&self, body: Body) {
        self.say.send(ConfigRequest { body: Some(body) }).await.unwrap();
    }

    pub(crate) async fn want(&self, destination: &str) {
        self.say(Body::Want(Want { destinations: vec![destination.into()], forget: Vec::new() })).await;
    }

    pub(crate) async fn forget(&self, name: &str) {
        self.say(Body::Want(Want { destinations: Vec::new(), forget: vec![name.into()] })).await;
    }

    /// The next message or why there is none.
    pub(crate) async fn receive(&mut self) -> Result<Option<Delta>, Status> {
        let deltas = self.deltas.as_mut().map_err(|status| status.clone())?;
        within("a delta", deltas.message()).await
    }

    /// The next delta, unanswered.
    pub(crate) async fn next(&mut self) -> Delta {
        self.receive().await.unwrap().expect("the stream ended")
    }

    pub(crate) async fn ack(&mut self, delta: Delta) {
        for resource in delta.upserts {
            self.held.insert((resource.kind(), resource.name.clone()), resource);
        }
        for removal in delta.removals {
            self.held.remove(&(removal.kind(), removal.name));
        }
        self.say(Body::Ack(Ack { nonce: delta.nonce })).await;
    }

    pub(crate) async fn nack(&self, delta: &Delta, kind: Kind, name: &str) {
        let error = ResourceError { kind: kind.into(), name: name.into(), message: "not to my taste".into() };
        self.say(Body::Nack(Nack { nonce: delta.nonce.clone(), errors: vec![error] })).await;
    }

    /// Acks until it holds that resource as wanted.
    pub(crate) async fn until(&mut self, kind: Kind, name: &str, is: impl Fn(&Resource) -> bool) -> Resource {
        loop {
            if let Some(resource) = self.held.get(&(kind, name.to_owned())).filter(|found| is(found)) {
                return resource.clone();
            }
            let delta = self.next().await;
            self.ack(delta).await;
        }
    }

    /// Nothing more is due: what the operator sends next is the answer to a question asked now.
    pub(crate) async fn assert_quiet(&mut self) {
        self.questions += 1;
        let nothing = format!("nowhere/nothing:n{}", self.questions);
        self.want(&nothing).await;
        let delta = self.next().await;
        let names: Vec<&str> = delta.removals.iter().map(|removal| removal.name.as_str()).collect();
        assert_eq!((delta.upserts.len(), names), (0, vec![&*nothing]), "{delta:#?}");
        self.ack(delta).await;
    }

    /// What a Hello after a lost connection says.
    pub(crate) fn have(&self) -> Vec<ResourceVersion> {
        let version = |resource: &Resource| ResourceVersion {
            kind: resource.kind().into(),
            name: resource.name.clone(),
            version: resource.version.clone(),
        };
        self.held.values().map(version).collect()
    }
}

pub(crate) fn hello(service: &str, number: u8) -> Hello {
    Hello {
        workload: format!("shop/{service}"),
        instance: format!("{service}-{number}"),
        version: "test".into(),
        ..Hello::default()
    }
}

/// The n-th instance of a service, each on its own address.
pub(crate) fn instance(service: &str, number: u8) -> Instance {
    let net = service.bytes().fold(0_u8, u8::wrapping_add);
    let ip = [127, 0, net, number + 1];
    let ports = PortAddresses { app: (ip, 8080).into(), peers: (ip, 15201).into() };
    let name = format!("{service}-{number}");
    let sha256 = Sha256::digest(token(&name));
    Instance {
        namespace: "shop".into(),
        service: service.into(),
        role: Role::Service,
        address: ip.into(),
        ports: BTreeMap::from([("http".into(), ports)]),
        outbound: BTreeMap::new(),
        listeners: BTreeMap::new(),
        ready: true,
        meshed: true,
        zone: String::new(),
        account: String::new(),
        shared: false,
        for_zones: Vec::new(),
        token_sha256: hex(&sha256),
        name,
    }
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from_digit(digit.into(), 16).unwrap()).collect()
}

pub(crate) fn token(instance: &str) -> String {
    format!("token of {instance}")
}

/// A key and a request for a certificate over it.
pub(crate) fn request() -> (PrivateKeyDer<'static>, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap();
    (PrivateKeyDer::Pkcs8(key.serialize_der().into()), csr.der().to_vec())
}

pub(crate) fn folder(files: &[(&str, &str)], instances: &[Instance]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["shop", "state"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    for (name, text) in files {
        std::fs::write(folder.path().join("shop").join(name), text).unwrap();
    }
    write_instances(&folder.path().join("state"), instances);
    folder
}

fn write_instances(state: &std::path::Path, instances: &[Instance]) {
    let text = serde_json::to_vec(&Instances { instances: instances.to_vec() }).unwrap();
    let beside: PathBuf = state.join("instances.json.new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, state.join("instances.json")).unwrap();
}

/// A connection to the operator with that identity.
pub(crate) async fn channel(
    operator: SocketAddr,
    identity: Identity,
) -> Result<Channel, tonic::transport::Error> {
    let config = std::sync::Arc::new(tls::client_config(&identity, &[ALPN_H2]).unwrap());
    let connect = move |_| {
        let connector = TlsConnector::from(std::sync::Arc::clone(&config));
        async move {
            let tcp = TcpStream::connect(operator).await?;
            let name = ServerName::try_from("operator.weft-system.svc").unwrap();
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, tcp).await?))
        }
    };
    let endpoint = Endpoint::from_static("http://operator").connect_timeout(DEADLINE);
    endpoint.connect_with_connector(tower::service_fn(connect)).await
}

pub(crate) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    let output = tokio::time::timeout(DEADLINE, future).await;
    output.unwrap_or_else(|_| panic!("{what} did not come within {DEADLINE:?}"))
}
