//! Runs the tests: the installation first, then side by side what does not disturb others, then one after the other what
//! does, the removal last. Says of each how long it took, and of one that failed why and where to look. One that fails is
//! tried once more in namespaces of its own, since a cluster has its own weather; the summary names those that needed it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::cluster::Cluster;
use crate::report;
use crate::space::Space;

/// Longest time for one test.
const PATIENCE: Duration = Duration::from_mins(6);

type Run = Box<dyn Fn(Cx) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> + Send + Sync>;

/// When a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before all others, which need it; always.
    First,
    /// Beside others.
    Together,
    /// While no other does, in the order of the list.
    Alone,
    /// After all others; only when all run.
    Last,
}

/// A test.
pub struct Test {
    name: &'static str,
    when: When,
    run: Run,
}

/// A test, named as its function is.
pub fn test<F, R>(when: When, function: F) -> Test
where
    F: Fn(Cx) -> R + Send + Sync + 'static,
    R: Future<Output = Result<()>> + Send + 'static,
{
    let name = std::any::type_name::<F>();
    let name = name.split_once("::").map_or(name, |(_, rest)| rest);
    Test { name, when, run: Box::new(move |cx| Box::pin(function(cx))) }
}

/// What a test gets.
#[derive(Clone)]
pub struct Cx {
    /// The cluster.
    pub cluster: Cluster,
    name: &'static str,
    spaces: Arc<Mutex<Vec<String>>>,
}

impl Cx {
    /// A namespace of its own whose pods are in the mesh.
    pub async fn meshed(&self) -> Result<Space> {
        self.space(true).await
    }

    /// A namespace of its own whose pods are not in the mesh.
    pub async fn plain(&self) -> Result<Space> {
        self.space(false).await
    }

    /// A namespace that is there already, so that its state is collected when the test fails.
    pub fn existing(&self, name: &str) -> Space {
        self.remember(name);
        Space::existing(&self.cluster, name)
    }

    async fn space(&self, meshed: bool) -> Result<Space> {
        let module = self.name.split("::").next().unwrap_or(self.name);
        let name = format!("e2e-{module}-{:06x}", rand::random::<u32>() & 0x00ff_ffff);
        self.remember(&name);
        Space::create(&self.cluster, &name, meshed).await
    }

    fn remember(&self, name: &str) {
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
    }

    fn spaces(&self) -> Vec<String> {
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Runs what the settings want; whether all of it passed.
pub async fn run(cluster: &Cluster, tests: Vec<Test>) -> bool {
    let settings = &cluster.settings;
    let began = Instant::now();
    let everything = settings.filters.is_empty() && !settings.keep;
    let (first, rest): (Vec<_>, Vec<_>) = tests.into_iter().partition(|test| test.when == When::First);
    let named = |test: &Test| !settings.filters.is_empty() && settings.wants(test.name);
    let chosen = rest.into_iter().filter(|test| match test.when {
        When::Last => everything || named(test),
        _ => settings.wants(test.name),
    });
    let (together, apart): (Vec<_>, Vec<_>) = chosen.partition(|test| test.when == When::Together);
    let mut outcome = Outcome::default();
    for test in first.into_iter().filter(|_| !settings.as_is) {
        if !outcome.add(attempt(cluster.clone(), test).await) {
            say(format_args!("the rest needs what failed"));
            return false;
        }
    }
    beside(cluster, together, &mut outcome).await;
    for test in apart {
        outcome.add(attempt(cluster.clone(), test).await);
    }
    let (passed, failed) = (outcome.passed, outcome.failed.len());
    say(format_args!("\n{passed} passed, {failed} failed in {:.0?}", began.elapsed()));
    for name in &outcome.again {
        say(format_args!("  passed at the second attempt only: {name}"));
    }
    for name in &outcome.failed {
        say(format_args!("  failed: {name}"));
    }
    outcome.failed.is_empty()
}

#[derive(Default)]
struct Outcome {
    passed: usize,
    again: Vec<&'static str>,
    failed: Vec<&'static str>,
}

/// How a test came out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passed,
    /// At the second attempt.
    PassedAgain,
    Failed,
}

impl Outcome {
    fn add(&mut self, (name, verdict): (&'static str, Verdict)) -> bool {
        match verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::PassedAgain => {
                self.passed += 1;
                self.again.push(name);
            }
            Verdict::Failed => self.failed.push(name),
        }
        verdict != Verdict::Failed
    }
}

async fn beside(cluster: &Cluster, tests: Vec<Test>, outcome: &mut Outcome) {
    let places = Arc::new(Semaphore::new(cluster.settings.jobs.max(1)));
    let mut running = JoinSet::new();
    for test in tests {
        let (places, cluster) = (Arc::clone(&places), cluster.clone());
        running.spawn(async move {
            let place = places.acquire_owned().await;
            let result = attempt(cluster, test).await;
            drop(place);
            result
        });
    }
    while let Some(done) = running.join_next().await {
        match done {
            Ok(result) => drop(outcome.add(result)),
            Err(error) => say(format_args!("the runner itself failed: {error}")),
        }
    }
}

async fn attempt(cluster: Cluster, test: Test) -> (&'static str, Verdict) {
    for verdict in [Verdict::Passed, Verdict::PassedAgain] {
        if once(&cluster, &test).await {
            return (test.name, verdict);
        }
    }
    (test.name, Verdict::Failed)
}

async fn once(cluster: &Cluster, test: &Test) -> bool {
    let cx = Cx { cluster: cluster.clone(), name: test.name, spaces: Arc::default() };
    let began = Instant::now();
    // A task of its own, so that a panic is an outcome too.
    let mut task = JoinSet::new();
    task.spawn((test.run)(cx.clone()));
    let result = match timeout(PATIENCE, task.join_next()).await {
        Err(_) => Err(anyhow::anyhow!("not done within {PATIENCE:?}")),
        Ok(Some(Ok(result))) => result,
        Ok(Some(Err(panic))) => Err(anyhow::anyhow!("{panic}")),
        Ok(None) => Err(anyhow::anyhow!("it never ran")),
    };
    let took = began.elapsed();
    match &result {
        Ok(()) => say(format_args!("test {} ... ok ({took:.1?})", test.name)),
        Err(error) => failed(&cx, took, error).await,
    }
    if let Err(error) = tidy(&cx).await {
        say(format_args!("cannot tidy up after {}: {error:#}", test.name));
    }
    result.is_ok()
}

async fn failed(cx: &Cx, took: Duration, error: &anyhow::Error) {
    let collected = report::collect(&cx.cluster, cx.name, &cx.spaces()).await;
    let (folder, told) = match collected {
        Ok((folder, told)) => (folder.display().to_string(), told),
        Err(error) => (format!("not collected: {error:#}"), String::new()),
    };
    say(format_args!(
        "test {} ... FAILED ({took:.1?})\n  {error:#}\n{told}state, events and logs: {folder}",
        cx.name
    ));
}

/// Deletes the namespaces that the test made; those that were there before stay.
async fn tidy(cx: &Cx) -> Result<()> {
    if cx.cluster.settings.keep {
        return Ok(());
    }
    for name in cx.spaces().iter().filter(|name| name.starts_with("e2e-")) {
        Space::existing(&cx.cluster, name).delete().await.context("its namespace")?;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the outcome of the tests is what the runner prints")]
fn say(text: std::fmt::Arguments<'_>) {
    println!("{text}");
}

/// Prints the names of the tests.
pub fn list(tests: &[Test]) {
    for test in tests {
        say(format_args!("{}: {:?}", test.name, test.when));
    }
}
