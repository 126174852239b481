//! Simulated proxies: each has an identity of its own by a real token, subscribes to what its service would use, and
//! acknowledges every delta at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures_util::{StreamExt, TryStreamExt, stream};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use weft_api::names::{ALPN_H2, OPERATOR_SERVER_NAME};
use weft_api::tls::{self, Identity};
use weft_api::v1::config_client::ConfigClient;
use weft_api::v1::config_request::Body;
use weft_api::v1::identity_client::IdentityClient;
use weft_api::v1::resource::Body as Resource;
use weft_api::v1::{Ack, ConfigRequest, Delta, Hello, SignRequest};

use crate::objects::{Cluster, NAMESPACE, address, pod, service};
use crate::operator::Operator;

const AT_ONCE: usize = 16;
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);
/// The service whose endpoint moves.
const HOT: usize = 0;

/// All proxies, and what each has seen last of the endpoint that moves.
pub(crate) struct Fleet {
    seen: Vec<watch::Receiver<String>>,
    /// Ends with the fleet.
    _streams: JoinSet<Result<()>>,
    moves: usize,
}

impl Fleet {
    /// Subscribes proxies of different services; returns when all know where the endpoint is.
    pub(crate) async fn subscribe(
        cluster: &Cluster,
        operator: &Operator,
        count: usize,
        uses: usize,
    ) -> Result<Self> {
        let roots = cluster.roots().await?;
        let mut streams = JoinSet::new();
        let mut seen = Vec::new();
        let opened: Vec<_> = stream::iter(0..count)
            .map(|n| open(cluster, operator.grpc, roots.clone(), n % cluster.services(), uses))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        for (say, deltas) in opened {
            let (tell, watched) = watch::channel(String::new());
            streams.spawn(follow(say, deltas, tell));
            seen.push(watched);
        }
        let mut fleet = Self { seen, _streams: streams, moves: 0 };
        fleet.until_all(&format!("{}:8080", address(HOT))).await?;
        Ok(fleet)
    }

    /// Moves the endpoint; how long until the last proxy has acknowledged it.
    pub(crate) async fn change(&mut self, cluster: &Cluster) -> Result<Duration> {
        self.moves += 1;
        let to = format!("10.200.{}.{}", self.moves / 250, self.moves % 250 + 1);
        let began = Instant::now();
        cluster.move_endpoint(HOT, &to).await?;
        self.until_all(&format!("{to}:8080")).await?;
        Ok(began.elapsed())
    }

    async fn until_all(&mut self, address: &str) -> Result<()> {
        let all = async {
            for seen in &mut self.seen {
                seen.wait_for(|seen| seen == address).await.context("a stream has ended")?;
            }
            Ok::<_, anyhow::Error>(())
        };
        tokio::time::timeout(ARRIVES_WITHIN, all)
            .await
            .with_context(|| format!("{address} did not arrive"))?
    }
}

type Opened = (mpsc::Sender<ConfigRequest>, tonic::Streaming<Delta>);

async fn open(
    cluster: &Cluster,
    operator: SocketAddr,
    roots: Vec<CertificateDer<'static>>,
    n: usize,
    uses: usize,
) -> Result<Opened> {
    let identity = identity(cluster, operator, roots, n).await?;
    let channel = connect(operator, &identity).await?;
    let used = (0..uses).map(|step| if step == 0 { HOT } else { (n + step * 7) % cluster.services() });
    let hello = Hello {
        workload: format!("{NAMESPACE}/{}", service(n)),
        instance: pod(n),
        version: env!("CARGO_PKG_VERSION").into(),
        want: used.map(|n| format!("{NAMESPACE}/{}:http", service(n))).collect(),
        ..Hello::default()
    };
    let (say, said) = mpsc::channel(16);
    say.send(ConfigRequest { body: Some(Body::Hello(hello)) }).await?;
    let deltas = ConfigClient::new(channel).subscribe(ReceiverStream::new(said)).await?.into_inner();
    Ok((say, deltas))
}

async fn follow(
    say: mpsc::Sender<ConfigRequest>,
    mut deltas: tonic::Streaming<Delta>,
    tell: watch::Sender<String>,
) -> Result<()> {
    let hot = format!("{NAMESPACE}/{}:http", service(HOT));
    while let Some(delta) = deltas.message().await? {
        say.send(ConfigRequest { body: Some(Body::Ack(Ack { nonce: delta.nonce })) }).await?;
        for resource in delta.upserts {
            if let (true, Some(Resource::Endpoints(endpoints))) = (resource.name == hot, resource.body) {
                let first = endpoints.endpoints.into_iter().next();
                tell.send_replace(first.map(|endpoint| endpoint.address).unwrap_or_default());
            }
        }
    }
    bail!("the operator ended a stream")
}

async fn identity(
    cluster: &Cluster,
    operator: SocketAddr,
    roots: Vec<CertificateDer<'static>>,
    n: usize,
) -> Result<Identity> {
    let key = KeyPair::generate()?;
    let csr = CertificateParams::default().serialize_request(&key)?.der().to_vec();
    let request =
        SignRequest { csr, workload: format!("{NAMESPACE}/{}", service(n)), token: cluster.token(n).await? };
    let nobody = Identity { chain: vec![], key: PrivateKeyDer::Pkcs8(vec![].into()), roots };
    let channel = connect(operator, &nobody).await?;
    let signed = IdentityClient::new(channel).sign(request).await?.into_inner();
    let ders = |ders: Vec<Vec<u8>>| ders.into_iter().map(CertificateDer::from).collect();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    Ok(Identity { chain: ders(signed.chain), key, roots: ders(signed.roots) })
}

async fn connect(operator: SocketAddr, identity: &Identity) -> Result<Channel> {
    let config = Arc::new(tls::client_config(identity, &[ALPN_H2])?);
    let connect = move |_| {
        let connector = TlsConnector::from(Arc::clone(&config));
        async move {
            let tcp = TcpStream::connect(operator).await?;
            let name = ServerName::try_from(OPERATOR_SERVER_NAME).map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, tcp).await?))
        }
    };
    let endpoint = Endpoint::from_static("http://operator");
    Ok(endpoint.connect_with_connector(tower::service_fn(connect)).await?)
}
