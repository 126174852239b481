//! Shutdown: every task is spawned here, named, told when to stop, and waited for. One instance per runtime; local
//! tasks (the data plane's workers) and sendable ones (the control plane) share the signal.

use std::future::Future;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug_span};

/// Spawns tasks and waits for them at the end.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    draining: CancellationToken,
    killed: CancellationToken,
}

impl Tasks {
    /// A new set with a signal of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// A set with tasks of its own that hears the same signals: one per worker.
    #[must_use]
    pub fn sibling(&self) -> Self {
        Self { tracker: TaskTracker::new(), draining: self.draining.clone(), killed: self.killed.clone() }
    }

    /// Spawns onto the current runtime. The task ends by itself when it hears [`Tasks::draining`]; at the deadline it
    /// is dropped where it stands.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let killed = self.killed.clone();
        let task = async move {
            tokio::select! { () = task => {}, () = killed.cancelled() => {} }
        };
        drop(self.tracker.spawn(task.instrument(debug_span!("task", task = name))));
    }

    /// As [`Tasks::spawn`], onto the local runtime of this thread. This is the request path: no span, and nothing to
    /// poll beside the task; at the deadline its worker drops the runtime with all that is left.
    pub fn spawn_local<F>(&self, task: F)
    where
        F: Future<Output = ()> + 'static,
    {
        drop(self.tracker.spawn_local(task));
    }

    /// As [`Tasks::drain`] for tasks of a local runtime, which the caller drops next.
    pub async fn drain_local(&self, deadline: Duration) -> bool {
        self.draining.cancel();
        self.tracker.close();
        timeout(deadline, self.tracker.wait()).await.is_ok()
    }

    /// Resolves once shutdown has begun: finish what is in flight, take nothing new.
    pub fn draining(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// Whether shutdown has begun.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Begins shutdown without waiting.
    pub fn begin(&self) {
        self.draining.cancel();
    }

    /// Begins shutdown, waits until all tasks have ended or the deadline has passed, then drops what is left.
    /// Returns whether everything ended by itself.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.draining.cancel();
        self.tracker.close();
        let clean = timeout(deadline, self.tracker.wait()).await.is_ok();
        self.killed.cancel();
        self.tracker.wait().await;
        clean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn drain_waits_for_a_task_that_listens() {
        let tasks = Tasks::new();
        let draining = tasks.draining();
        tasks.spawn("listens", async move { draining.cancelled().await });
        assert!(tasks.drain(Duration::from_secs(1)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn drain_drops_a_task_that_does_not_listen_at_the_deadline() {
        let tasks = Tasks::new();
        tasks.spawn("deaf", std::future::pending());
        assert!(!tasks.drain(Duration::from_secs(1)).await);
    }
}
