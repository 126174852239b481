//! Waiting: by watch for what the API server knows, by asking again for what only a running program knows. Both have a
//! deadline, and both say what they saw last when it passes.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Result, bail};
use futures_util::StreamExt;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, timeout_at};

/// Time between two questions to a running program.
const AGAIN: Duration = Duration::from_millis(200);

/// The objects that a watch sees, by name (by `namespace/name` where it sees several namespaces).
pub type Seen<K> = BTreeMap<String, K>;

/// Which objects, and what they should come to.
pub struct Goal<'a> {
    /// What is waited for, in the words of the message when it does not come.
    pub what: &'a str,
    /// Which objects are looked at.
    pub which: watcher::Config,
    /// How long it may take.
    pub within: Duration,
}

impl<'a> Goal<'a> {
    /// One object by its name.
    pub fn named(what: &'a str, name: &str, within: Duration) -> Self {
        let which = watcher::Config::default().fields(&format!("metadata.name={name}"));
        Self { what, which, within }
    }

    /// All objects with these labels; all where there are none.
    pub fn labelled(what: &'a str, labels: &str, within: Duration) -> Self {
        Self { what, which: watcher::Config::default().labels(labels), within }
    }
}

/// Watches until `check` gives a value; its error says what is still missing.
pub async fn until<K, T>(
    api: &Api<K>,
    goal: Goal<'_>,
    mut check: impl FnMut(&Seen<K>) -> Result<T, String>,
) -> Result<T>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let deadline = Instant::now() + goal.within;
    let mut events = pin!(watch(api.clone(), goal.which).default_backoff());
    let mut seen = Seen::new();
    let mut listing = Seen::new();
    let mut last = "the watch has not begun".to_owned();
    loop {
        let Ok(event) = timeout_at(deadline, events.next()).await else {
            bail!("not within {:?}: {}; last seen: {last}", goal.within, goal.what);
        };
        match event {
            None => bail!("the watch ended while waiting for: {}; last seen: {last}", goal.what),
            Some(Err(error)) => {
                last = format!("{last} (then the watch failed: {error})");
                continue;
            }
            Some(Ok(Event::Init)) => {
                listing.clear();
                continue;
            }
            Some(Ok(Event::InitApply(object))) => {
                listing.insert(key(&object), object);
                continue;
            }
            Some(Ok(Event::InitDone)) => seen = std::mem::take(&mut listing),
            Some(Ok(Event::Apply(object))) => {
                seen.insert(key(&object), object);
            }
            Some(Ok(Event::Delete(object))) => {
                seen.remove(&key(&object));
            }
        }
        match check(&seen) {
            Ok(value) => return Ok(value),
            Err(missing) => last = missing,
        }
    }
}

/// Asks again and again until there is a value; the error says what is still missing.
pub async fn eventually<T, F>(what: &str, within: Duration, mut ask: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T, String>>,
{
    let deadline = Instant::now() + within;
    let mut last = "nothing yet".to_owned();
    loop {
        match timeout_at(deadline, ask()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(missing)) => last = missing,
            Err(_) => bail!("not within {within:?}: {what}; last seen: {last} (and then no answer)"),
        }
        if Instant::now() >= deadline {
            bail!("not within {within:?}: {what}; last seen: {last}");
        }
        sleep(AGAIN).await;
    }
}

/// The one object of a watch by name.
pub fn one<K>(seen: &Seen<K>) -> Result<&K, String> {
    seen.values().next().ok_or_else(|| "it is not there".to_owned())
}

fn key<K: Resource>(object: &K) -> String {
    object.name_any()
}
