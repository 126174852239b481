//! Runs what hyper spawns (the streams of HTTP/2) on the current thread.

use std::future::Future;

use crate::drain::Tasks;

/// Spawns onto this thread's local runtime, drained with the worker.
#[derive(Clone, Debug)]
pub struct LocalExec(pub Tasks);

impl weft_transport::Spawn for LocalExec {
    fn spawn<F: Future<Output = ()> + 'static>(&self, task: F) {
        self.0.spawn_local(task);
    }
}

impl<F> hyper::rt::Executor<F> for LocalExec
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn_local(future);
    }
}
