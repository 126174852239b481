//! The manifests of a directory, and of the state folder the instances and the manifests that `weft run` made, read again
//! whenever a file changes.
//!
//! The system says when something changed; a look every two seconds catches what it does not (network file systems, a
//! directory that was replaced). After a first sign it waits for quiet, so that files that belong together are read
//! together. What the files mean is in [`load`].

mod load;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use weft_api::names::GENERATED_FOLDER;

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
    files: Option<Files>,
    instances: Option<Read<Option<String>>>,
    /// There have been instances before: then a missing file is no statement that there are none.
    had_instances: bool,
    /// What is in the log already, and still so.
    warnings: BTreeSet<String>,
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
            let made = self.state.join(GENERATED_FOLDER);
            if made.is_dir() {
                watcher.watch(&made, RecursiveMode::NonRecursive)?;
            }
            Ok::<_, notify::Error>(watcher)
        };
        watch().inspect_err(|error| warn!(%error, "files cannot be watched; looking every two seconds")).ok()
    }

    async fn look(&mut self, hub: &Hub) -> Result<(), Stopping> {
        let path = self.state.join(INSTANCES);
        let instances = read(&path, read_instances).await;
        if self.seen.instances.as_ref() != Some(&instances) {
            let loaded = load::instances(&path, &instances, self.seen.had_instances);
            self.seen.had_instances |= matches!(instances, Ok(Some(_)));
            self.seen.instances = Some(instances);
            hub.say(Event::Loaded(loaded)).await?;
        }
        let files = self.settled_files().await;
        if self.seen.files.as_ref() != Some(&files) {
            let (loaded, warnings) = load::objects(&self.manifests, &files);
            for warning in self.seen.news(warnings) {
                warn!("{warning}");
            }
            self.seen.files = Some(files);
            hub.say(Event::Loaded(loaded)).await?;
        }
        Ok(())
    }

    /// Editors truncate a file and then write it, and an empty file is a good one without its objects: what differs
    /// from before counts only when it reads the same twice.
    async fn settled_files(&self) -> Files {
        let mut files = self.files().await;
        let Some(seen) = &self.seen.files else { return files };
        let until = Instant::now() + QUIET_WITHIN;
        while files != *seen && Instant::now() < until {
            tokio::time::sleep(QUIET_FOR).await;
            let again = self.files().await;
            if again == files {
                break;
            }
            files = again;
        }
        files
    }

    /// The manifests that people wrote, and those that `weft run` made.
    async fn files(&self) -> Files {
        let mut files = read(&self.manifests, read_files).await?;
        files.extend(read(&self.state.join(GENERATED_FOLDER), read_made).await?);
        Ok(files)
    }
}

impl Seen {
    /// Those that were not there before.
    fn news(&mut self, warnings: Vec<String>) -> Vec<String> {
        let before = std::mem::replace(&mut self.warnings, BTreeSet::from_iter(warnings));
        self.warnings.difference(&before).cloned().collect()
    }
}

/// What was read, or why it cannot be.
type Read<T> = Result<T, String>;
/// The files of a directory.
type Files = Read<Vec<File>>;

/// Reads on a thread that may block.
async fn read<T: Send + 'static>(path: &Path, read: fn(&Path) -> Read<T>) -> Read<T> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read(&path)).await;
    read.unwrap_or_else(|error| Err(format!("cannot be read: {error}")))
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

fn read_files(folder: &Path) -> Files {
    let cannot = |error: io::Error| format!("cannot be read: {error}");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if name.starts_with('.') || !is_yaml || path.is_dir() {
            continue;
        }
        let says_what_runs = RUN_FILES.contains(&name);
        let text = std::fs::read_to_string(&path).map_err(|error| format!("cannot be read: {error}"));
        files.push(File { path, says_what_runs, text });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// There need not be any.
fn read_made(folder: &Path) -> Files {
    if folder.is_dir() { read_files(folder) } else { Ok(Vec::new()) }
}

fn read_instances(path: &Path) -> Read<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_said_once_until_it_has_gone() {
        let mut seen = Seen::default();
        let mut news = |said: &[&str]| seen.news(said.iter().map(ToString::to_string).collect());
        assert_eq!(news(&["a", "b"]), ["a", "b"]);
        assert_eq!(news(&["a", "b"]), [""; 0]);
        assert_eq!(news(&["b", "c"]), ["c"]);
        assert_eq!(news(&["a"]), ["a"]);
    }
}
