//! Puts the operator together and runs it: binds, starts its parts, and takes them down again. Used by `main` and,
//! in-process, by `weft run` and tests. What the parts do is theirs.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::attest::{Attest, JoinTokens};
use crate::authority::Authority;
use crate::event::Hub;
use crate::jwks::{Fetcher, Pace, Store, Wanted};
use crate::metrics::Metrics;
use crate::reconcile::{Keeping, Outlets, Reconciler};
use crate::server::admin::Admin;
use crate::server::{ConfigService, Grpc, IdentityService};
use crate::settings::{Settings, SourceSetting};
use crate::source::Source;
use crate::source::dir::Dir;
use crate::source::kube::Kube;
use crate::trust::cluster::Cluster;
use crate::trust::{Trust, WebhookCertificate};

/// How long open requests may take once the operator stops.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Where a running operator is reached.
#[derive(Clone, Debug)]
pub struct Bound {
    /// Identities and configuration.
    pub grpc: SocketAddr,
    /// Metrics, readiness and status.
    pub admin: SocketAddr,
    /// Turns true when the first configuration is in force: `roots.pem` is in the state folder, proxies are served.
    pub ready: watch::Receiver<bool>,
}

/// Runs the operator until `stopping`. `bound` is told the addresses as soon as they are bound, which is before
/// anything is served on the first.
pub async fn run(
    settings: Settings,
    bound: oneshot::Sender<Bound>,
    stopping: CancellationToken,
) -> anyhow::Result<()> {
    let listener = bind(settings.grpc_addr).await?;
    let admin_listener = bind(settings.admin_addr).await?;
    if let Some(state) = &settings.state {
        std::fs::create_dir_all(state)
            .with_context(|| format!("state folder {} cannot be made", state.display()))?;
    }
    let (ready, is_ready) = watch::channel(false);
    let (grpc, admin) = (listener.local_addr()?, admin_listener.local_addr()?);
    info!(version = env!("CARGO_PKG_VERSION"), %grpc, %admin, "operator started");
    // Nobody has to be interested.
    drop(bound.send(Bound { grpc, admin, ready: is_ready.clone() }));

    let stop = stopping.child_token();
    let metrics = Arc::new(Metrics::new()?);
    let source = open_source(&settings, &metrics).await?;
    let mut tasks = JoinSet::new();
    let decisions = start(&settings, source, &metrics, &mut tasks, &stop);
    let admin = Admin { hub: decisions.hub.clone(), metrics: Arc::clone(&metrics), ready: is_ready };
    let admin = admin.serve(admin_listener, stop.clone());
    tasks.spawn(async { admin.await.context("admin listener") });
    tasks.spawn(serve(decisions, listener, ready, stop.clone()));
    supervise(tasks, stop).await
}

/// The one place where a cluster and a directory part: all that differs follows from the source.
async fn open_source(settings: &Settings, metrics: &Arc<Metrics>) -> anyhow::Result<Source> {
    Ok(match &settings.source {
        SourceSetting::Dir(manifests) => {
            let state = settings.state.clone().context("--state is not given")?;
            Source::Dir(Dir::new(manifests.clone(), state))
        }
        SourceSetting::Kube => {
            let kube = Kube::connect(Arc::clone(metrics)).await;
            Source::Kube(
                kube.context("no cluster: neither KUBECONFIG nor a pod's service account leads to one")?,
            )
        }
    })
}

/// What the reconciler decides, for those who carry it out.
struct Decisions {
    hub: Hub,
    metrics: Arc<Metrics>,
    store: Arc<Store>,
    tokens: watch::Receiver<JoinTokens>,
    wanted_keys: watch::Receiver<Vec<Wanted>>,
    in_force: oneshot::Receiver<Arc<Authority>>,
    /// None where the source is none.
    cluster: Option<Cluster>,
    webhook: WebhookCertificate,
}

/// Starts the reconciler and the source that feeds it.
fn start(
    settings: &Settings,
    source: Source,
    metrics: &Arc<Metrics>,
    tasks: &mut JoinSet<anyhow::Result<()>>,
    stop: &CancellationToken,
) -> Decisions {
    let (hub, events) = Hub::new();
    let store = Arc::new(Store::open(settings.state.as_deref()));
    let (say_tokens, tokens) = watch::channel(JoinTokens::default());
    let (say_wanted, wanted_keys) = watch::channel(Vec::new());
    let (say_in_force, in_force) = oneshot::channel();
    let (say_namespaces, namespaces) = watch::channel(BTreeSet::new());
    let lifetime = settings.certificate_lifetime;
    let (keeping, cluster) = match source.client() {
        Some(client) => {
            let (ask, asked) = watch::channel(None);
            let cluster = Cluster::new(client, asked, namespaces, hub.clone());
            let (opening, stop) = (Box::pin(cluster.clone().open(lifetime)), stop.clone());
            tasks.spawn(async move {
                stop.run_until_cancelled(opening).await;
                stop.cancelled().await;
                Ok(())
            });
            (Keeping::Elsewhere(ask), Some(cluster))
        }
        None => (Keeping::Folder { folder: settings.state.clone().unwrap_or_default(), lifetime }, None),
    };
    let outlets = Outlets {
        keeping,
        in_cluster: cluster.is_some(),
        namespaces: say_namespaces,
        tokens: say_tokens,
        wanted_keys: say_wanted,
        in_force: Some(say_in_force),
        metrics: Arc::clone(metrics),
    };
    let reconciler = Reconciler::new(outlets, store.all()).run(events, stop.clone());
    let source = source.run(hub.clone(), stop.clone());
    tasks.spawn(async {
        reconciler.await;
        Ok(())
    });
    tasks.spawn(async {
        source.await;
        Ok(())
    });
    let webhook = settings.webhook_certificate.clone();
    let webhook = webhook.map_or(WebhookCertificate::Issued, WebhookCertificate::Folder);
    let metrics = Arc::clone(metrics);
    Decisions { hub, metrics, store, tokens, wanted_keys, in_force, cluster, webhook }
}

/// Serves proxies, once there is a configuration to serve.
async fn serve(
    decisions: Decisions,
    listener: TcpListener,
    ready: watch::Sender<bool>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let Decisions { hub, metrics, store, tokens, wanted_keys, in_force, cluster, webhook } = decisions;
    let authority = tokio::select! {
        authority = in_force => authority.context("the reconciler ended")?,
        () = stop.cancelled() => return Ok(()),
    };
    let trust = Trust::new(Arc::clone(&authority), webhook.clone(), hub.clone())?;
    let own = trust.own();
    let attest = match &cluster {
        Some(cluster) => Attest::Review(Box::new(cluster.review())),
        None => Attest::Static(tokens),
    };
    let identity = IdentityService::new(attest, Arc::clone(&authority), Arc::clone(&metrics));
    let config = ConfigService { hub: hub.clone(), metrics: Arc::clone(&metrics), stopping: stop.clone() };
    let trust_domain = authority.trust_domain();
    let tls = own.server;
    let grpc = Grpc { listener, tls, trust_domain, identity, config, metrics: Arc::clone(&metrics) };
    let (tls, pace) = (own.client, Pace::default());
    let fetcher = Fetcher { wanted: wanted_keys, tls, store, hub, metrics, pace };
    ready.send_replace(true);
    let in_cluster = async {
        if let Some(cluster) = cluster {
            Box::pin(cluster.run(authority, webhook, stop.clone())).await;
        }
    };
    let proxies = async { tokio::join!(grpc.serve(stop.clone()), fetcher.run(stop.clone())).0 };
    let (served, (), ()) = tokio::join!(proxies, trust.run(stop.clone()), in_cluster);
    ready.send_replace(false);
    served.context("gRPC listener")
}

async fn bind(addr: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr)
        .await
        .with_context(|| format!("{addr} cannot be listened on; name another address"))
}

/// Waits until the operator is to stop or one of its parts fails, then lets all parts end.
async fn supervise(mut tasks: JoinSet<anyhow::Result<()>>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut outcome = Ok(());
    tokio::select! {
        () = stop.cancelled() => info!("operator stopping"),
        Some(ended) = tasks.join_next() => {
            outcome = ended.context("a part of the operator panicked").flatten();
            stop.cancel();
        }
    }
    let all_end = async {
        while let Some(ended) = tasks.join_next().await {
            let ended = ended.context("a part of the operator panicked").flatten();
            if outcome.is_ok() {
                outcome = ended;
            }
        }
    };
    if tokio::time::timeout(STOP_WITHIN, all_end).await.is_err() {
        warn!("requests were still open when the operator stopped");
        tasks.shutdown().await;
    }
    outcome
}
