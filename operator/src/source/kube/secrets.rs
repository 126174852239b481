//! The Secrets that others point to, each followed by its name: the operator lists none, and holds none that nobody needs.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;

use futures_util::TryStreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::ResourceExt;
use kube::api::{Api, WatchEvent, WatchParams};
use tokio::sync::{mpsc, watch as value};
use tokio::task::{AbortHandle, JoinSet};
use weft_core::world::Name;

use super::health::{Failure, Health};
use super::kind::Kind;
use super::read::{self, Said};
use super::watch::{RENEWED_AFTER, Retry};

/// Follows the Secrets that are wanted.
pub(super) struct Secrets {
    pub(super) client: Client,
    pub(super) health: Arc<Health>,
    pub(super) say: mpsc::Sender<Said>,
}

impl Secrets {
    /// Follows until nobody wants any more.
    pub(super) async fn run(self, mut wanted: value::Receiver<BTreeSet<Name>>) {
        let mut followed: BTreeMap<Name, AbortHandle> = BTreeMap::new();
        let mut tasks = JoinSet::new();
        while wanted.changed().await.is_ok() {
            let now = wanted.borrow_and_update().clone();
            let (left, lost) = followed.into_iter().partition(|(name, _)| now.contains(name));
            followed = left;
            self.leave(lost).await;
            for name in now {
                let follow = || Follow {
                    api: Api::namespaced(self.client.clone(), &name.namespace),
                    health: Arc::clone(&self.health),
                    say: self.say.clone(),
                    name: name.clone(),
                };
                followed.entry(name.clone()).or_insert_with(|| tasks.spawn(follow().run()));
            }
        }
    }

    async fn leave(&self, lost: BTreeMap<Name, AbortHandle>) {
        for (name, task) in lost {
            task.abort();
            self.health.works(Kind::Secret, &name.to_string());
            // Nobody listens only when the operator is stopping.
            drop(self.say.send(Said::Gone { kind: Kind::Secret, name }).await);
        }
    }
}

/// Follows one Secret.
struct Follow {
    api: Api<Secret>,
    health: Arc<Health>,
    say: mpsc::Sender<Said>,
    name: Name,
}

impl Follow {
    async fn run(self) {
        let mut retry = Retry::default();
        while !self.say.is_closed() {
            match self.once().await {
                Ok(()) => retry = Retry::default(),
                Err(error) => {
                    self.fails(&error).await;
                    tokio::time::sleep(retry.next()).await;
                }
            }
        }
    }

    async fn fails(&self, error: &kube::Error) {
        let failure = Failure::of(error);
        if failure != Failure::Behind {
            self.health.fails(Kind::Secret, &self.name.to_string(), failure, error);
        }
        if failure != Failure::Away {
            self.tell(Said::SecretUnanswered(self.name.clone())).await;
        }
    }

    /// Looks it up, then watches as long as the API server lets a watch live.
    async fn once(&self) -> Result<(), kube::Error> {
        let found = self.api.get_opt(&self.name.name).await?;
        self.health.works(Kind::Secret, &self.name.to_string());
        // A watch from version 0 begins with the Secret as it is, so nothing falls between the two.
        let version =
            found.as_ref().and_then(ResourceExt::resource_version).unwrap_or_else(|| "0".to_owned());
        self.tell(match found {
            Some(secret) => read::secret(self.name.clone(), secret),
            None => Said::Gone { kind: Kind::Secret, name: self.name.clone() },
        })
        .await;
        let only = format!("metadata.name={}", self.name.name);
        let params = WatchParams::default().fields(&only).timeout(RENEWED_AFTER);
        let mut events = pin!(self.api.watch(&params, &version).await?);
        while let Some(event) = events.try_next().await? {
            match event {
                WatchEvent::Added(secret) | WatchEvent::Modified(secret) => {
                    self.tell(read::secret(self.name.clone(), secret)).await;
                }
                WatchEvent::Deleted(_) => {
                    self.tell(Said::Gone { kind: Kind::Secret, name: self.name.clone() }).await;
                }
                WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
            }
        }
        Ok(())
    }

    async fn tell(&self, said: Said) {
        // Nobody listens only when the operator is stopping.
        drop(self.say.send(said).await);
    }
}
