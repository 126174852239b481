//! What a cluster asks of the operator's trust, together: the authority is opened as soon as the Mesh is known, then it
//! and the issuer are followed by every replica, and the leader keeps what it writes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::error;
use weft_crds::mesh::Mesh;

use super::{WebhookCertificate, roots, webhooks};
use crate::attest::review::Review;
use crate::authority::secret::Keeper;
use crate::authority::{Authority, issuer};
use crate::event::{Event, Hub};
use crate::leader::Leadership;

/// An authority that cannot be opened is tried again after this long.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// The cluster, and what the reconciler says of it.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    keeper: Keeper,
    /// What the Mesh says, once it is known.
    asked: watch::Receiver<Option<Mesh>>,
    /// Namespaces that need the roots, once they are known.
    namespaces: watch::Receiver<Option<BTreeSet<String>>>,
    hub: Hub,
}

impl Cluster {
    pub(crate) fn new(
        client: Client,
        asked: watch::Receiver<Option<Mesh>>,
        namespaces: watch::Receiver<Option<BTreeSet<String>>>,
        hub: Hub,
    ) -> Self {
        Self { keeper: Keeper::new(client.clone()), client, asked, namespaces, hub }
    }

    /// Who says whose a token is.
    pub(crate) fn review(&self) -> Review {
        Review::new(self.client.clone())
    }

    /// Opens the authority, however long it takes, and hands it to the reconciler.
    pub(crate) async fn open(mut self, lifetime: Option<Duration>) {
        loop {
            let Ok(asked) = self.asked.wait_for(Option::is_some).await.map(|mesh| mesh.clone()) else {
                return;
            };
            let Some(mesh) = asked else { continue };
            let opened = self.keeper.open(&mesh, lifetime).await.map(Arc::new);
            let is_open = opened.is_ok();
            let said = self.hub.say(Event::Authority(opened)).await;
            if is_open || said.is_err() {
                return;
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// Follows what is kept and, as the leader, keeps it, until `stopping`.
    pub(crate) async fn run(
        self,
        authority: Arc<Authority>,
        webhook: WebhookCertificate,
        mut leadership: Leadership,
        stopping: CancellationToken,
    ) {
        let follow = self.keeper.clone().follow(Arc::clone(&authority), stopping.clone());
        let issuer = issuer::follow(self.keeper.clone(), Arc::clone(&authority), stopping.clone());
        let lead = leadership.while_leading(|| Box::pin(self.lead(&authority, &webhook)));
        let lead = stopping.run_until_cancelled(lead);
        tokio::join!(follow, issuer, lead);
    }

    async fn lead(&self, authority: &Authority, webhook: &WebhookCertificate) {
        let bundles = async {
            if matches!(webhook, WebhookCertificate::Issued) {
                Box::pin(webhooks::lead(self.client.clone(), authority)).await;
            }
        };
        let roots = roots::lead(self.client.clone(), authority, self.namespaces.clone());
        let (roots, bundles) = (Box::pin(roots), Box::pin(bundles));
        tokio::join!(self.keeper.lead(authority, &self.hub), roots, bundles);
        error!("the operator writes nothing any more");
    }
}
