//! A steady load from a pod of its own, whose log is followed: every failure is counted with its time and reason, so that
//! "not one request failed" is a sentence that a test can say.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{AsyncBufReadExt, StreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, LogParams};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::space::Space;
use crate::wire::{Failure, Line, Tick};

/// Most failures that a message tells.
const TOLD: usize = 15;
/// Longest silence of a load that runs.
const SILENCE: Duration = Duration::from_secs(30);

/// What was counted so far.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// The last line that said how far it is.
    pub tick: Tick,
    /// Longest time of a good answer, in milliseconds.
    pub slowest: u64,
    /// What went wrong, in order.
    pub failures: Vec<Failure>,
    ended: Option<String>,
}

/// A load that runs until it is dropped or finished.
pub struct Load {
    pods: Api<Pod>,
    pod: String,
    counts: Arc<Mutex<Counts>>,
    // Following ends with the load.
    _follower: JoinSet<()>,
}

impl Load {
    /// Starts `weft-e2e-app` with these words (`load URL`, `ws URL`) in a pod called so, as the service account so called,
    /// and waits for the first good answers.
    pub async fn start(space: &Space, pod: &str, args: &[&str]) -> Result<Self> {
        space.apply(&manifest(pod, args)).await?;
        space.ready_pod(pod).await?;
        let counts = Arc::new(Mutex::new(Counts::default()));
        let mut follower = JoinSet::new();
        follower.spawn(follow(space.api(), pod.to_owned(), Arc::clone(&counts)));
        let load = Self { pods: space.api(), pod: pod.to_owned(), counts, _follower: follower };
        load.progress(20).await?;
        Ok(load)
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many more were answered well, whatever fails meanwhile.
    pub async fn progress(&self, more: u64) -> Result<()> {
        let goal = self.counts().tick.ok + more;
        let mut last = (self.counts().tick.ok, Instant::now());
        loop {
            let now = self.counts();
            if now.tick.ok >= goal {
                return Ok(());
            }
            if let Some(end) = now.ended {
                bail!("the load {} has ended: {end}", self.pod);
            }
            if now.tick.ok > last.0 {
                last = (now.tick.ok, Instant::now());
            }
            ensure!(
                last.1.elapsed() < SILENCE,
                "the load {} has had no good answer for {SILENCE:?}: {} good, {}",
                self.pod,
                now.tick.ok,
                told(&now)
            );
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Fails where anything failed so far.
    pub fn none_failed(&self, during: &str) -> Result<()> {
        let counts = self.counts();
        ensure!(
            counts.tick.failed == 0 && counts.failures.is_empty(),
            "{during}: {} of {} failed: {}",
            counts.tick.failed,
            counts.tick.failed + counts.tick.ok,
            told(&counts)
        );
        Ok(())
    }

    /// Lets it run a little longer, then stops it; fails where anything failed from its start on.
    pub async fn finish(self, during: &str) -> Result<Counts> {
        self.progress(40).await?;
        self.none_failed(during)?;
        let counts = self.counts();
        self.pods.delete(&self.pod, &DeleteParams::background()).await.context("cannot stop the load")?;
        Ok(counts)
    }
}

fn told(counts: &Counts) -> String {
    if counts.failures.is_empty() {
        return "no failure told".to_owned();
    }
    let line = |failure: &Failure| format!("  {} after {} ms: {}", failure.when, failure.took, failure.why);
    let more = counts.failures.len().checked_sub(TOLD).filter(|more| *more > 0);
    let more = more.map(|more| format!("  and {more} more"));
    let lines: Vec<String> = counts.failures.iter().take(TOLD).map(line).chain(more).collect();
    format!("\n{}", lines.join("\n"))
}

async fn follow(pods: Api<Pod>, pod: String, counts: Arc<Mutex<Counts>>) {
    let end = read(&pods, &pod, &counts).await;
    let why = end.map_or_else(|error| format!("{error:#}"), |()| "its log ended".to_owned());
    counts.lock().unwrap_or_else(PoisonError::into_inner).ended = Some(why);
}

async fn read(pods: &Api<Pod>, pod: &str, counts: &Mutex<Counts>) -> Result<()> {
    let params = LogParams { container: Some("app".to_owned()), follow: true, ..LogParams::default() };
    let mut lines = pods.log_stream(pod, &params).await?.lines();
    while let Some(line) = lines.next().await {
        let line = line?;
        let parsed = serde_json::from_str(&line).with_context(|| format!("unexpected line: {line}"))?;
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        match parsed {
            Line::Tick(tick) => {
                counts.slowest = counts.slowest.max(tick.slowest);
                counts.tick = tick;
            }
            Line::Failure(failure) => counts.failures.push(failure),
        }
    }
    Ok(())
}

fn manifest(pod: &str, args: &[&str]) -> String {
    let args = serde_json::json!(args);
    format!(
        "\
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {pod}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: {pod}, labels: {{app: {pod}}}}}
spec:
  serviceAccountName: {pod}
  terminationGracePeriodSeconds: 5
  containers: [{{name: app, image: $APP, args: {args}}}]
"
    )
}
