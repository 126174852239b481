//! Keeps the key sets that JWT policies need: fetches them, keeps the last good ones, says why when there are none.
//!
//! One task per key set, so that a slow issuer delays no other. A set that cannot be fetched never blocks or undoes
//! configuration: what was fetched last stays in use, over restarts too ([`store`]). How one fetch is done, and what
//! is refused there, is in [`fetch`].

mod fetch;
mod store;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use weft_api::v1::Keys;

pub(crate) use self::fetch::Route;
pub(crate) use self::store::Store;
use crate::clock::unix_now;
use crate::event::{Event, Hub};
use crate::metrics::Metrics;

const FETCH_WITHIN: Duration = Duration::from_secs(5);

/// How often key sets are fetched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) refresh: Duration,
    /// After the first failure; doubled with each further one.
    pub(crate) retry_first: Duration,
    pub(crate) retry_last: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let [refresh, retry_first, retry_last] = [300, 1, 30].map(Duration::from_secs);
        Self { refresh, retry_first, retry_last }
    }
}

/// A key set that is to be kept, and the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Name of the Keys resource.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) uri: String,
    /// How to get there.
    pub(crate) route: Route,
}

/// TLS of the operator as a client inside the mesh; replaced when its certificate is renewed.
pub(crate) type ClientTls = Arc<ArcSwap<rustls::ClientConfig>>;

/// Fetches all key sets that are wanted.
pub(crate) struct Fetcher {
    pub(crate) wanted: watch::Receiver<Vec<Wanted>>,
    pub(crate) tls: ClientTls,
    pub(crate) store: Arc<Store>,
    pub(crate) hub: Hub,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) pace: Pace,
}

/// What fetches one key set.
struct Task {
    wanted: watch::Sender<Wanted>,
    handle: AbortHandle,
}

impl Fetcher {
    /// Runs until `stopping`.
    pub(crate) async fn run(mut self, stopping: CancellationToken) {
        let mut tasks = JoinSet::new();
        let mut by_name = HashMap::new();
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            self.follow(&wanted, &mut by_name, &mut tasks);
            tokio::select! {
                changed = self.wanted.changed() => if changed.is_err() { break },
                () = stopping.cancelled() => break,
            }
            while tasks.try_join_next().is_some() {}
        }
        tasks.shutdown().await;
    }

    fn follow(&self, wanted: &[Wanted], by_name: &mut HashMap<String, Task>, tasks: &mut JoinSet<()>) {
        by_name.retain(|name, task| {
            let keep = wanted.iter().any(|wanted| wanted.name == *name);
            if !keep {
                task.handle.abort();
            }
            keep
        });
        for wanted in wanted {
            if let Some(task) = by_name.get(&wanted.name) {
                let is_new = |known: &mut Wanted| std::mem::replace(known, wanted.clone()) != *wanted;
                task.wanted.send_if_modified(is_new);
            } else {
                let (say, told) = watch::channel(wanted.clone());
                let handle = tasks.spawn(self.keeper(told).run());
                by_name.insert(wanted.name.clone(), Task { wanted: say, handle });
            }
        }
    }

    fn keeper(&self, wanted: watch::Receiver<Wanted>) -> Keeper {
        let keys = self.store.get(&wanted.borrow().name).unwrap_or_default();
        let (tls, store) = (Arc::clone(&self.tls), Arc::clone(&self.store));
        let metrics = Arc::clone(&self.metrics);
        Keeper { wanted, tls, store, hub: self.hub.clone(), metrics, pace: self.pace, keys }
    }
}

/// Keeps one key set.
struct Keeper {
    wanted: watch::Receiver<Wanted>,
    tls: ClientTls,
    store: Arc<Store>,
    hub: Hub,
    metrics: Arc<Metrics>,
    pace: Pace,
    /// What was said last.
    keys: Keys,
}

impl Keeper {
    async fn run(mut self) {
        let Pace { refresh, retry_first, retry_last } = self.pace;
        let mut retry = retry_first;
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            let fetched = self.fetch(&wanted).await;
            let good = fetched.is_ok();
            if !self.say(&wanted, fetched).await {
                return;
            }
            let pause = if good { refresh } else { retry };
            retry = if good { retry_first } else { (retry * 2).min(retry_last) };
            match self.pause(jittered(pause), good, &wanted.uri).await {
                Pause::Over => {}
                Pause::CutShort => retry = retry_first,
                Pause::NotWanted => return,
            }
        }
    }

    async fn fetch(&self, wanted: &Wanted) -> Result<String, String> {
        let fetch = fetch::fetch(&wanted.uri, &wanted.route, &self.tls);
        let fetched = tokio::time::timeout(FETCH_WITHIN, fetch).await;
        let fetched = fetched.unwrap_or(Err(fetch::FetchError::TooSlow));
        let outcome = if fetched.is_ok() { "ok" } else { "failed" };
        self.metrics.jwks_fetch.with_label_values(&[outcome]).inc();
        fetched.map_err(|error| fetch::with_causes(&error))
    }

    /// Tells the reconciler what is new. False when nobody listens any more.
    async fn say(&mut self, wanted: &Wanted, fetched: Result<String, String>) -> bool {
        let last = self.keys.clone();
        match fetched {
            Ok(jwks) if jwks == last.jwks => self.keys.error.clear(),
            Ok(jwks) => self.keys = Keys { jwks, error: String::new(), fetched_at: unix_now() },
            Err(error) => self.keys.error = format!("{}: {error}", wanted.uri),
        }
        if self.keys == last {
            return true;
        }
        if self.keys.error.is_empty() {
            info!(keys = wanted.name, uri = wanted.uri, "key set fetched");
        } else {
            let kept = !self.keys.jwks.is_empty();
            warn!(keys = wanted.name, error = self.keys.error, kept, "key set not fetched");
        }
        self.store.put(&wanted.name, &self.keys);
        let event = Event::Keys { name: wanted.name.clone(), keys: self.keys.clone() };
        self.hub.say(event).await.is_ok()
    }

    /// Waits; a way that opens while there is a failure to mend, or another address, cuts it short.
    async fn pause(&mut self, pause: Duration, good: bool, uri: &str) -> Pause {
        let until = Instant::now() + pause;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return Pause::Over,
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return Pause::NotWanted;
                    }
                    if !good || self.wanted.borrow_and_update().uri != uri {
                        return Pause::CutShort;
                    }
                }
            }
        }
    }
}

enum Pause {
    Over,
    CutShort,
    NotWanted,
}

/// 80 to 100 % of it, so that many operators do not ask at the same moment.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(1.0 - 0.2 * rand::random::<f64>())
}

#[cfg(test)]
mod tests;
