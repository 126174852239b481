//! The manifests of a directory and the instances of the state folder, read again whenever a file changes.
//!
//! The system says when something changed; a look every two seconds catches what it does not (network file systems, a
//! directory that was replaced). After a first sign it waits for quiet, so that files that belong together are read
//! together. What the files mean is in [`load`].

mod load;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::load::File;
use crate::event::{Event, Hub, Stopping};

const LOOK_EVERY: Duration = Duration::from_secs(2);
const QUIET_FOR: Duration = Duration::from_millis(40);
const QUIET_WITHIN: Duration = Duration::from_millis(400);

/// Name of the file that says what runs; it is no manifest.
const RUN_FILES: [&str; 2] = ["weft.yaml", "weft.yml"];
/// Name of the file of instances in the state folder.
const INSTANCES: &str = "instances.json";

/// A directory of manifests.
#[derive(Debug)]
pub(crate) struct Dir {
    manifests: PathBuf,
    state: PathBuf,
    seen: Seen,
}

/// What was read last, to see what changed.
#[derive(Debug, Default)]
struct Seen {
    files: Option<Result<Vec<File>, String>>,
    instances: Option<Result<Option<String>, String>>,
    /// There have been instances before: then a missing file is no statement that there are none.
    had_instances: bool,
}

impl Dir {
    /// The manifests of one directory, the instances of another.
    pub(crate) fn new(manifests: PathBuf, state: PathBuf) -> Self {
        Self { manifests, state, seen: Seen::default() }
    }

    /// Reads at once, then whenever something changes, until `stopping`.
    pub(crate) async fn run(mut self, hub: Hub, stopping: CancellationToken) {
        let changed = Arc::new(Notify::new());
        let mut watcher = self.watch(&changed);
        loop {
            if self.look(&hub).await.is_err() {
                return;
            }
            tokio::select! {
                () = changed.notified() => settle(&changed).await,
                () = tokio::time::sleep(LOOK_EVERY) => {
                    if watcher.is_none() {
                        watcher = self.watch(&changed);
                    }
                }
                () = stopping.cancelled() => return,
            }
        }
    }

    /// None while a directory is not there: then looking has to do.
    fn watch(&self, changed: &Arc<Notify>) -> Option<RecommendedWatcher> {
        let notify = Arc::clone(changed);
        let handler = move |event: notify::Result<notify::Event>| {
            if !event.is_ok_and(|event| event.kind.is_access()) {
                notify.notify_one();
            }
        };
        let watch = || {
            let mut watcher = notify::recommended_watcher(handler)?;
            watcher.watch(&self.manifests, RecursiveMode::NonRecursive)?;
            watcher.watch(&self.state, RecursiveMode::NonRecursive)?;
            Ok::<_, notify::Error>(watcher)
        };
        watch().inspect_err(|error| warn!(%error, "files cannot be watched; looking every two seconds")).ok()
    }

    async fn look(&mut self, hub: &Hub) -> Result<(), Stopping> {
        let (manifests, instances) = (self.manifests.clone(), self.state.join(INSTANCES));
        let read = move || (read_files(&manifests), read_instances(&instances));
        let Ok((files, instances)) = tokio::task::spawn_blocking(read).await else { return Ok(()) };
        if self.seen.files.as_ref() != Some(&files) {
            let loaded = load::objects(&self.manifests, &files);
            self.seen.files = Some(files);
            hub.say(Event::Loaded(loaded)).await?;
        }
        if self.seen.instances.as_ref() != Some(&instances) {
            let loaded = load::instances(&self.state.join(INSTANCES), &instances, self.seen.had_instances);
            self.seen.had_instances |= matches!(instances, Ok(Some(_)));
            self.seen.instances = Some(instances);
            hub.say(Event::Loaded(loaded)).await?;
        }
        Ok(())
    }
}

/// Waits until nothing has changed for a moment, but not for ever.
async fn settle(changed: &Notify) {
    let until = Instant::now() + QUIET_WITHIN;
    while Instant::now() < until {
        if tokio::time::timeout(QUIET_FOR, changed.notified()).await.is_err() {
            return;
        }
    }
}

fn read_files(folder: &Path) -> Result<Vec<File>, String> {
    let cannot = |error: io::Error| format!("cannot be read: {error}");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if name.starts_with('.') || !is_yaml || path.is_dir() {
            continue;
        }
        let is_run_file = RUN_FILES.contains(&name);
        let text = std::fs::read_to_string(&path).map_err(|error| format!("cannot be read: {error}"));
        files.push(File { path, is_run_file, text });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn read_instances(path: &Path) -> Result<Option<String>, String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}
