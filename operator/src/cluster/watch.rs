//! Watches what the operator made, by its label and metadata only, so that what somebody changes or deletes is put
//! right, and what a leader before this one made and nobody wants any more is found.

use std::collections::HashMap;

use futures_util::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DynamicObject, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tracing::warn;
use weft_api::names::{LABEL_MANAGED_BY, MANAGER};
use weft_core::render::OwnedKind;
use weft_core::world::Name;

use super::apply::fingerprint;
use super::kinds;
use super::plan::{OwnedRef, Seen};

/// What was seen of objects that the operator made.
#[derive(Debug)]
pub(super) enum Sight {
    /// One is like this now; none: it is gone.
    One(OwnedRef, Option<Seen>),
    /// These are all of a kind.
    All(OwnedKind, HashMap<Name, Seen>),
}

/// Watches a kind until nobody listens.
pub(super) async fn watch(client: Client, kind: OwnedKind, say: mpsc::Sender<Sight>) {
    let api = Api::<PartialObjectMeta<DynamicObject>>::all_with(client, &kinds::owned(kind));
    let ours = watcher::Config::default().labels(&format!("{LABEL_MANAGED_BY}={MANAGER}"));
    let mut events = std::pin::pin!(watcher(api, ours).default_backoff());
    let mut listed = HashMap::new();
    while let Some(event) = events.next().await {
        let sight = match event {
            Ok(Event::Apply(object)) => {
                Sight::One(reference(kind, &object.metadata), Some(seen(&object.metadata)))
            }
            Ok(Event::Delete(object)) => Sight::One(reference(kind, &object.metadata), None),
            Ok(Event::Init) => {
                listed.clear();
                continue;
            }
            Ok(Event::InitApply(object)) => {
                listed.insert(reference(kind, &object.metadata).name, seen(&object.metadata));
                continue;
            }
            Ok(Event::InitDone) => Sight::All(kind, std::mem::take(&mut listed)),
            Err(error) => {
                let kind = kind.as_str();
                warn!(kind, error = &error as &dyn std::error::Error, "watch failed; it is tried again");
                continue;
            }
        };
        if say.send(sight).await.is_err() {
            return;
        }
    }
}

fn reference(kind: OwnedKind, meta: &ObjectMeta) -> OwnedRef {
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    OwnedRef { kind, name: Name::new(namespace, meta.name.as_deref().unwrap_or_default()) }
}

fn seen(meta: &ObjectMeta) -> Seen {
    let controller = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    Seen {
        uid: meta.uid.clone().unwrap_or_default(),
        owner_uid: controller.map(|owner| owner.uid.clone()).unwrap_or_default(),
        fingerprint: fingerprint(meta),
    }
}
