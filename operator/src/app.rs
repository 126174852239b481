//! Puts the operator together and runs it: binds, starts its parts, and takes them down again. Used by `main` and,
//! in-process, by `weft run` and tests. What the parts do is theirs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use weft_api::names::PORT_OPERATOR;

use crate::attest::{Attest, JoinTokens};
use crate::authority::Authority;
use crate::cluster::{Cluster, Outlet};
use crate::event::Hub;
use crate::jwks::{ClientTls, Fetcher, Pace, Store, Wanted};
use crate::leader::{Candidate, Leadership};
use crate::metrics::Metrics;
use crate::reconcile::{Keeping, Outlets, Reconciler};
use crate::replicas::Forwarder;
use crate::server::admin::Admin;
use crate::server::webhook::Webhook;
use crate::server::{ConfigService, Grpc, IdentityService, ReplicasService};
use crate::settings::{Settings, SourceSetting};
use crate::source::Source;
use crate::source::dir::Dir;
use crate::source::kube::Kube;
use crate::trust::cluster::Cluster as TrustCluster;
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
    let listeners = Listeners::bind(&settings).await?;
    let admin_listener = bind(settings.admin_addr).await?;
    if let Some(state) = &settings.state {
        std::fs::create_dir_all(state)
            .with_context(|| format!("state folder {} cannot be made", state.display()))?;
    }
    let (ready, is_ready) = watch::channel(false);
    let (grpc, admin) = (listeners.grpc.local_addr()?, admin_listener.local_addr()?);
    info!(version = env!("CARGO_PKG_VERSION"), %grpc, %admin, "operator started");
    // Nobody has to be interested.
    drop(bound.send(Bound { grpc, admin, ready: is_ready.clone() }));

    let stop = stopping.child_token();
    let metrics = Arc::new(Metrics::new()?);
    let settings = Settings { grpc_addr: grpc, ..settings };
    let source = open_source(&settings, &metrics).await?;
    let mut tasks = JoinSet::new();
    let decisions = start(&settings, source, &metrics, &mut tasks, &stop);
    let admin = Admin { hub: decisions.hub.clone(), metrics: Arc::clone(&metrics), ready: is_ready };
    let admin = admin.serve(admin_listener, stop.clone());
    tasks.spawn(async { admin.await.context("admin listener") });
    tasks.spawn(serve(decisions, listeners, ready, stop.clone()));
    supervise(tasks, stop).await
}

/// Where it is called, apart from its admin pages.
struct Listeners {
    grpc: TcpListener,
    /// In a cluster only.
    webhook: Option<TcpListener>,
}

impl Listeners {
    async fn bind(settings: &Settings) -> anyhow::Result<Self> {
        let webhook = match settings.source {
            SourceSetting::Kube => Some(bind(settings.webhook_addr).await?),
            SourceSetting::Dir(_) => None,
        };
        Ok(Self { grpc: bind(settings.grpc_addr).await?, webhook })
    }
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
    cluster: Option<TrustCluster>,
    replica: Option<Replica>,
    webhook: WebhookCertificate,
    webhooks: Webhook,
}

/// This replica of an operator in a cluster.
struct Replica {
    outlet: Outlet,
    leadership: Leadership,
    /// What it writes into the Lease when it leads: its pod, and where other replicas reach it.
    name: String,
}

impl Replica {
    fn name(settings: &Settings) -> String {
        let Settings { pod_name, pod_ip, grpc_addr, .. } = settings;
        match grpc_addr.port() {
            PORT_OPERATOR => format!("{pod_name}_{pod_ip}"),
            port => format!("{pod_name}_{}", SocketAddr::from((*pod_ip, port))),
        }
    }

    /// Tells the leader what this replica's proxies say.
    async fn report(self, tls: ClientTls, stop: CancellationToken) {
        let Self { outlet, leadership, name } = self;
        let forwarder = Forwarder { reports: outlet.reports, leadership, tls, me: name };
        forwarder.run(stop).await;
    }
}

/// Takes part in the election, and writes to the cluster while this replica leads.
fn take_part(
    settings: &Settings,
    client: Client,
    (hub, metrics): (&Hub, &Arc<Metrics>),
    tasks: &mut JoinSet<anyhow::Result<()>>,
    stop: &CancellationToken,
) -> Replica {
    let name = Replica::name(settings);
    let outlet = Outlet { template: settings.proxy.clone(), ..Outlet::default() };
    let (candidate, leadership) = Candidate::new(client.clone(), name.clone(), Arc::clone(metrics));
    let cluster = Cluster {
        client,
        leadership: leadership.clone(),
        outlet: outlet.clone(),
        hub: hub.clone(),
        instance: settings.pod_name.clone(),
    };
    let candidate = candidate.run(stop.clone());
    tasks.spawn(async {
        tokio::join!(candidate, cluster.run());
        Ok(())
    });
    Replica { outlet, leadership, name }
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
    let (say_namespaces, namespaces) = watch::channel(None);
    let lifetime = settings.certificate_lifetime;
    let (keeping, cluster, replica) = if let Some(client) = source.client() {
        let (ask, asked) = watch::channel(None);
        let cluster = TrustCluster::new(client.clone(), asked, namespaces, hub.clone());
        let (opening, opens_until) = (Box::pin(cluster.clone().open(lifetime)), stop.clone());
        tasks.spawn(async move {
            opens_until.run_until_cancelled(opening).await;
            opens_until.cancelled().await;
            Ok(())
        });
        let replica = take_part(settings, client, (&hub, metrics), tasks, stop);
        (Keeping::Elsewhere(ask), Some(cluster), Some(replica))
    } else {
        let folder = settings.state.clone().unwrap_or_default();
        (Keeping::Folder { folder, lifetime }, None, None)
    };
    let outlets = Outlets {
        keeping,
        cluster: replica.as_ref().map(|replica| replica.outlet.clone()),
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
    let (metrics, template) = (Arc::clone(metrics), Arc::new(settings.proxy.clone()));
    let webhooks = Webhook { hub: hub.clone(), template, metrics: Arc::clone(&metrics) };
    Decisions { hub, metrics, store, tokens, wanted_keys, in_force, cluster, replica, webhook, webhooks }
}

/// Serves proxies, once there is a configuration to serve.
async fn serve(
    decisions: Decisions,
    listeners: Listeners,
    ready: watch::Sender<bool>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let Decisions { hub, metrics, store, tokens, wanted_keys, in_force, cluster, replica, webhook, webhooks } =
        decisions;
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
    let (listener, tls) = (listeners.grpc, own.server);
    let replicas = ReplicasService::new(hub.clone(), stop.clone());
    let grpc =
        Grpc { listener, tls, trust_domain, identity, config, replicas, metrics: Arc::clone(&metrics) };
    let (tls, pace) = (own.client, Pace::default());
    let fetcher = Fetcher { wanted: wanted_keys, tls: Arc::clone(&tls), store, hub, metrics, pace };
    ready.send_replace(true);
    let in_cluster = async {
        if let (Some(cluster), Some(replica)) = (cluster, replica) {
            let leadership = replica.leadership.clone();
            let trust = Box::pin(cluster.run(authority, webhook, leadership, stop.clone()));
            tokio::join!(trust, Box::pin(replica.report(tls, stop.clone())));
        }
    };
    let webhooks = async {
        if let Some(listener) = listeners.webhook {
            webhooks.serve(listener, own.webhook, stop.clone()).await;
        }
    };
    let proxies = async { tokio::join!(grpc.serve(stop.clone()), fetcher.run(stop.clone())).0 };
    let (served, (), (), ()) = tokio::join!(proxies, trust.run(stop.clone()), in_cluster, webhooks);
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
