//! Puts the operator together and runs it: binds, starts its parts, and takes them down again. Used by `main` and,
//! in-process, by `weft run` and tests. What the parts do is theirs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use weft_api::names::ALPN_HTTP1;
use weft_api::tls::{self, TlsError};

use crate::attest::{Attest, JoinTokens};
use crate::authority::{Authority, OwnIdentity};
use crate::clock::unix_now;
use crate::event::Hub;
use crate::jwks::{ClientTls, Fetcher, Pace, Store, Wanted};
use crate::metrics::Metrics;
use crate::reconcile::{Outlets, Reconciler};
use crate::server::admin::Admin;
use crate::server::{ConfigService, Grpc, IdentityService, ServerTls, server_tls};
use crate::settings::{Settings, SourceSetting};
use crate::source::Source;
use crate::source::dir::Dir;
use crate::source::kube::Kube;

/// How long open requests may take once the operator stops.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// How often roots and the operator's own certificate are looked at.
const RENEWAL_EVERY: Duration = Duration::from_mins(10);

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
    let outlets = Outlets {
        state: settings.state.clone(),
        in_cluster: source.client().is_some(),
        certificate_lifetime: settings.certificate_lifetime,
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
    Decisions { hub, metrics: Arc::clone(metrics), store, tokens, wanted_keys, in_force }
}

/// Serves proxies, once there is a configuration to serve.
async fn serve(
    decisions: Decisions,
    listener: TcpListener,
    ready: watch::Sender<bool>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let Decisions { hub, metrics, store, tokens, wanted_keys, in_force } = decisions;
    let authority = tokio::select! {
        authority = in_force => authority.context("the reconciler ended")?,
        () = stop.cancelled() => return Ok(()),
    };
    let own = OwnTls::new(&authority)?;
    let identity = IdentityService::new(Attest::Static(tokens), Arc::clone(&authority), Arc::clone(&metrics));
    let config = ConfigService { hub: hub.clone(), metrics: Arc::clone(&metrics), stopping: stop.clone() };
    let trust_domain = authority.trust_domain();
    let tls = Arc::clone(&own.server);
    let grpc = Grpc { listener, tls, trust_domain, identity, config, metrics: Arc::clone(&metrics) };
    let (tls, pace) = (Arc::clone(&own.client), Pace::default());
    let fetcher = Fetcher { wanted: wanted_keys, tls, store, hub, metrics, pace };
    ready.send_replace(true);
    let (served, (), ()) =
        tokio::join!(grpc.serve(stop.clone()), fetcher.run(stop.clone()), own.renew(authority, stop));
    ready.send_replace(false);
    served.context("gRPC listener")
}

/// TLS by the operator's own certificate, for both ends.
struct OwnTls {
    server: ServerTls,
    client: ClientTls,
    renew_at: i64,
}

impl OwnTls {
    fn new(authority: &Authority) -> anyhow::Result<Self> {
        let own = authority.own_identity(unix_now())?;
        let (server, client) = both_ends(&own)?;
        let (server, client) = (Arc::new(ArcSwap::new(server)), Arc::new(ArcSwap::new(client)));
        Ok(Self { server, client, renew_at: own.renew_at })
    }

    /// Turns over roots and renews the own certificate, each when it is time. A failure is tried again: what is in use
    /// holds for long.
    async fn renew(mut self, authority: Arc<Authority>, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(RENEWAL_EVERY)).await.is_some() {
            if let Err(error) = self.look(&authority) {
                error!(error = format!("{error:#}"), "certificates not renewed");
            }
        }
    }

    fn look(&mut self, authority: &Authority) -> anyhow::Result<()> {
        let now = unix_now();
        let roots_changed = authority.turn_over(now)?;
        if !roots_changed && now < self.renew_at {
            return Ok(());
        }
        let own = authority.own_identity(now)?;
        let (server, client) = both_ends(&own)?;
        self.server.store(server);
        self.client.store(client);
        self.renew_at = own.renew_at;
        info!(roots_changed, "the operator's own certificate renewed");
        Ok(())
    }
}

type BothEnds = (Arc<rustls::ServerConfig>, Arc<rustls::ClientConfig>);

fn both_ends(own: &OwnIdentity) -> Result<BothEnds, TlsError> {
    Ok((server_tls(&own.identity)?, Arc::new(tls::client_config(&own.identity, &[ALPN_HTTP1])?)))
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
