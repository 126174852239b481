//! A cluster: every kind that matters is watched, what is seen becomes changes of the world, as small as they came.
//!
//! Each watch is a task of its own ([`watch`]) that reads its objects ([`read`]) and says what it saw to one collector
//! ([`collect`]), which knows what is there and hands changes over in batches. Secrets are followed one by one, by name
//! ([`secrets`]). A watch that fails is tried again for ever: what was seen last stays in force ([`health`]).

mod collect;
mod health;
mod kind;
mod read;
mod secrets;
mod watch;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, DynamicObject, PartialObjectMeta};
use kube::runtime::watcher;
use tokio::sync::{mpsc, watch as value};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::collect::Collector;
use self::health::Health;
use self::kind::Kind;
use self::read::Said;
use self::secrets::Secrets;
use self::watch::Watch;
use crate::event::{Event, Hub, Stopping};
use crate::metrics::Metrics;
use crate::source::Loaded;

/// How long a connection to the API server may take to open.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Most that is said before the collector has taken it.
const PENDING: usize = 1024;
/// Most changes handed over at once.
const BATCH: usize = 512;
/// Pods that have ended keep their labels, but are no instances of anything.
const RUNNING: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// The cluster.
pub(crate) struct Kube {
    client: Client,
    health: Arc<Health>,
}

impl Kube {
    /// The cluster that the kubeconfig or the pod's service account leads to.
    pub(crate) async fn connect(metrics: Arc<Metrics>) -> Result<Self, kube::Error> {
        let mut config = kube::Config::infer().await.map_err(kube::Error::InferConfig)?;
        config.connect_timeout = Some(CONNECT_WITHIN);
        let client = Client::try_from(config)?;
        Ok(Self { client, health: Arc::new(Health::new(metrics)) })
    }

    /// The way to its API server.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Watches until `stopping`.
    pub(crate) async fn run(self, hub: Hub, stopping: CancellationToken) {
        let (say, said) = mpsc::channel(PENDING);
        let (want, wanted) = value::channel(BTreeSet::new());
        let mut tasks = JoinSet::new();
        self.start(&say, &mut tasks);
        let secrets = Secrets { client: self.client.clone(), health: Arc::clone(&self.health), say };
        tasks.spawn(secrets.run(wanted));
        // Watches end with the set that holds them.
        stopping.run_until_cancelled(hand_over(said, want, hub)).await;
        tasks.shutdown().await;
    }

    fn start(&self, say: &mpsc::Sender<Said>, tasks: &mut JoinSet<()>) {
        for kind in Kind::LISTED.into_iter().filter(|kind| kind.is_custom()) {
            let api = |resource| Api::all_with(self.client.clone(), &resource);
            let apis: Vec<Api<DynamicObject>> = kind.resources().into_iter().map(api).collect();
            tasks.spawn(self.watch(kind, apis, watcher::Config::default(), read::custom).run(say.clone()));
        }
        let all = watcher::Config::default;
        let services: Api<Service> = Api::all(self.client.clone());
        tasks.spawn(self.watch(Kind::Service, vec![services], all(), read::service).run(say.clone()));
        let slices: Api<EndpointSlice> = Api::all(self.client.clone());
        tasks.spawn(self.watch(Kind::EndpointSlice, vec![slices], all(), read::slice).run(say.clone()));
        let pods: Api<PartialObjectMeta<Pod>> = Api::all(self.client.clone());
        tasks.spawn(self.watch(Kind::Pod, vec![pods], all().fields(RUNNING), read::pod).run(say.clone()));
        let namespaces: Api<PartialObjectMeta<Namespace>> = Api::all(self.client.clone());
        tasks.spawn(self.watch(Kind::Namespace, vec![namespaces], all(), read::namespace).run(say.clone()));
    }

    fn watch<K>(
        &self,
        kind: Kind,
        apis: Vec<Api<K>>,
        config: watcher::Config,
        read: read::Read<K>,
    ) -> Watch<K> {
        Watch {
            kind,
            apis,
            config: config.timeout(watch::RENEWED_AFTER),
            read,
            health: Arc::clone(&self.health),
        }
    }
}

/// Hands over what watches say, all that is there at a time.
async fn hand_over(
    mut said: mpsc::Receiver<Said>,
    want: value::Sender<BTreeSet<weft_core::world::Name>>,
    hub: Hub,
) {
    let mut collector = Collector::default();
    let mut batch = Vec::with_capacity(BATCH);
    while said.recv_many(&mut batch, BATCH).await > 0 {
        if give(&mut collector, batch.drain(..), &want, &hub).await.is_err() {
            return;
        }
    }
}

async fn give(
    collector: &mut Collector,
    said: impl Iterator<Item = Said>,
    want: &value::Sender<BTreeSet<weft_core::world::Name>>,
    hub: &Hub,
) -> Result<(), Stopping> {
    let changes: Vec<_> = said.flat_map(|said| collector.take(said)).collect();
    want.send_if_modified(|known| collector.update_wanted(known));
    if !changes.is_empty() {
        hub.say(Event::Loaded(Loaded::Changes(changes))).await?;
    }
    if collector.becomes_synced() {
        info!("all of the cluster's resources are read");
        hub.say(Event::Loaded(Loaded::Synced)).await?;
    }
    Ok(())
}

impl std::fmt::Debug for Kube {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kube").finish_non_exhaustive()
    }
}
