//! The `ConfigMap` `weft-roots` in every namespace that has proxies, by the leader: what a new proxy starts from. Made
//! where it is missing, put right where it is changed, taken away where nobody needs it any more.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, Preconditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tracing::{debug, info, warn};
use weft_api::names::{LABEL_MANAGED_BY, MANAGER, ROOTS_CONFIG_MAP, ROOTS_FILE};

use super::owner;
use crate::authority::Authority;

const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// What failed is tried again after this long.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Namespaces written at once.
const AT_ONCE: usize = 4;

/// What is there, as far as it was seen: none is not ours.
type Seen = HashMap<String, Found>;

/// A `ConfigMap` of that name in some namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Found {
    roots: String,
    is_ours: bool,
    uid: Option<String>,
}

/// Something to be done in a namespace.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Write(String),
    Delete(String, Option<String>),
}

/// Keeps the `ConfigMaps` right, as the leader. `namespaces` are those that have proxies, once
/// they are known: before, nothing is taken away. Ends with the operator only.
pub(crate) async fn lead(
    client: Client,
    authority: &Authority,
    mut namespaces: watch::Receiver<Option<BTreeSet<String>>>,
) {
    let owner = owner::installation(&client).await;
    let all: Api<ConfigMap> = Api::all(client.clone());
    let named = watcher::Config::default().fields(&format!("metadata.name={ROOTS_CONFIG_MAP}"));
    let events = watcher(all, named).default_backoff();
    let mut events = std::pin::pin!(events);
    let mut changes = authority.changes();
    let (mut seen, mut fresh) = (Seen::new(), Seen::new());
    let mut is_whole = false;
    loop {
        let mut failed = false;
        let wanted = namespaces.borrow_and_update().clone();
        if is_whole && let Some(wanted) = wanted {
            let roots = authority.roots_pem();
            let steps = due(&wanted, &roots, &seen);
            failed = take(&client, steps, &roots, owner.as_ref()).await;
        }
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => is_whole |= follow(event, &mut seen, &mut fresh),
                Some(Err(error)) => debug!(%error, "{ROOTS_CONFIG_MAP} cannot be watched"),
                None => return,
            },
            changed = namespaces.changed() => if changed.is_err() { return },
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN_AFTER), if failed => {}
        }
    }
}

/// Notes what a watch says. Says whether all has been said once.
fn follow(event: watcher::Event<ConfigMap>, seen: &mut Seen, fresh: &mut Seen) -> bool {
    let namespace = |map: &ConfigMap| map.namespace().unwrap_or_default();
    match event {
        watcher::Event::Init => fresh.clear(),
        watcher::Event::InitApply(map) => drop(fresh.insert(namespace(&map), Found::of(&map))),
        watcher::Event::InitDone => {
            *seen = std::mem::take(fresh);
            return true;
        }
        watcher::Event::Apply(map) => drop(seen.insert(namespace(&map), Found::of(&map))),
        watcher::Event::Delete(map) => drop(seen.remove(&namespace(&map))),
    }
    false
}

impl Found {
    fn of(map: &ConfigMap) -> Self {
        let roots = map.data.as_ref().and_then(|data| data.get(ROOTS_FILE)).cloned().unwrap_or_default();
        let is_ours = map.labels().get(LABEL_MANAGED_BY).is_some_and(|by| by == MANAGER);
        Self { roots, is_ours, uid: map.uid() }
    }
}

fn due(namespaces: &BTreeSet<String>, roots: &str, seen: &Seen) -> Vec<Step> {
    let is_right =
        |namespace: &&String| seen.get(*namespace).is_none_or(|found| found.roots != roots || !found.is_ours);
    let writes = namespaces.iter().filter(is_right).cloned().map(Step::Write);
    let is_left = |(namespace, found): &(&String, &Found)| found.is_ours && !namespaces.contains(*namespace);
    let deletes = seen
        .iter()
        .filter(is_left)
        .map(|(namespace, found)| Step::Delete(namespace.clone(), found.uid.clone()));
    writes.chain(deletes).collect()
}

/// Takes all steps. Says whether any of them failed.
async fn take(client: &Client, steps: Vec<Step>, roots: &str, owner: Option<&OwnerReference>) -> bool {
    let one = |step: Step| async move {
        let taken = match &step {
            Step::Write(namespace) => write(client, namespace, roots, owner).await,
            Step::Delete(namespace, uid) => delete(client, namespace, uid.clone()).await,
        };
        match taken {
            Ok(()) => {
                info!(?step, "roots of a namespace");
                false
            }
            Err(error) if is_gone(&error) => false,
            Err(error) => {
                warn!(
                    error = &error as &dyn std::error::Error,
                    ?step,
                    "roots of a namespace are not right yet"
                );
                true
            }
        }
    };
    let failed = stream::iter(steps).map(one).buffer_unordered(AT_ONCE);
    failed.fold(false, |any, failed| async move { any | failed }).await
}

/// What went wrong with a `ConfigMap`.
#[derive(Debug, thiserror::Error)]
enum RootsError {
    #[error("the API server does not do it")]
    Cluster(#[source] Box<kube::Error>),
    #[error("no answer of the API server")]
    Late,
}

async fn write(
    client: &Client,
    namespace: &str,
    roots: &str,
    owner: Option<&OwnerReference>,
) -> Result<(), RootsError> {
    let labels = [(LABEL_MANAGED_BY, MANAGER), ("app.kubernetes.io/name", "weft-operator")];
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(ROOTS_CONFIG_MAP.to_owned()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            owner_references: owner.map(|owner| vec![owner.clone()]),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(ROOTS_FILE.to_owned(), roots.to_owned())])),
        ..ConfigMap::default()
    };
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let params = PatchParams::apply(MANAGER).force();
    answer(maps.patch(ROOTS_CONFIG_MAP, &params, &Patch::Apply(&map))).await.map(drop)
}

async fn delete(client: &Client, namespace: &str, uid: Option<String>) -> Result<(), RootsError> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let only = Preconditions { uid, resource_version: None };
    let params = DeleteParams::default().preconditions(only);
    answer(maps.delete(ROOTS_CONFIG_MAP, &params)).await.map(drop)
}

async fn answer<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, RootsError> {
    let answered = tokio::time::timeout(ANSWER_WITHIN, request).await.map_err(|_| RootsError::Late)?;
    answered.map_err(|error| RootsError::Cluster(Box::new(error)))
}

/// The namespace, or what was to be deleted, is gone or going.
fn is_gone(error: &RootsError) -> bool {
    let RootsError::Cluster(error) = error else { return false };
    match &**error {
        kube::Error::Api(status) => {
            status.code == 404 || (status.code == 403 && status.message.contains("being terminated"))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};

    use super::*;

    fn names(all: &[&str]) -> BTreeSet<String> {
        all.iter().map(|name| (*name).to_owned()).collect()
    }

    fn found(roots: &str, is_ours: bool) -> Found {
        Found { roots: roots.into(), is_ours, uid: Some("u".into()) }
    }

    #[test]
    fn what_is_missing_or_wrong_is_written_and_what_is_left_over_of_ours_goes() {
        let seen = [
            ("right", found("now", true)),
            ("stale", found("before", true)),
            ("unlabelled", found("now", false)),
            ("left", found("now", true)),
            ("theirs", found("else", false)),
        ];
        let seen: Seen = seen.map(|(namespace, found)| (namespace.to_owned(), found)).into();
        let steps = due(&names(&["missing", "right", "stale", "unlabelled"]), "now", &seen);
        let write = |namespace: &str| Step::Write(namespace.into());
        let delete = Step::Delete("left".into(), Some("u".into()));
        assert_eq!(steps, [write("missing"), write("stale"), write("unlabelled"), delete]);
    }

    #[test]
    fn a_list_that_begins_anew_forgets_what_is_gone() {
        let map = |namespace: &str| {
            let mut map = ConfigMap::default();
            map.metadata.namespace = Some(namespace.into());
            map
        };
        let (mut seen, mut fresh) = (Seen::new(), Seen::new());
        let mut whole = Vec::new();
        for event in
            [Init, InitApply(map("a")), InitDone, Apply(map("b")), Init, InitApply(map("c")), InitDone]
        {
            whole.push(follow(event, &mut seen, &mut fresh));
        }
        assert_eq!(whole, [false, false, true, false, false, false, true]);
        assert_eq!(seen.keys().collect::<Vec<_>>(), ["c"]);
        follow(Delete(map("c")), &mut seen, &mut fresh);
        assert!(seen.is_empty());
    }
}
