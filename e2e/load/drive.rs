//! Sends requests and writes down what comes of each: at their times, whatever became of the ones before; or, to see what
//! is possible at most, from so many customers who ask again as soon as they are answered.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::Timing;
use crate::progress::Progress;
use crate::record::{Outcome, Record, Summary};

/// How a load is driven.
pub(crate) struct Drive {
    /// Longest time that a customer waits.
    pub(crate) patience: Duration,
    /// Most requests under way; those that are due beyond are errors, so that this process does not become the bottleneck
    /// unseen.
    pub(crate) most: usize,
    /// What chance begins with.
    pub(crate) seed: u64,
}

/// Requests that are under way.
struct UnderWay {
    tasks: JoinSet<()>,
    record: Arc<Record>,
    patience: Duration,
}

impl Drive {
    /// Sends requests as the timing says, and waits for the answers.
    pub(crate) async fn run<F>(
        &self,
        timing: &Timing,
        progress: &Progress,
        request: impl FnMut() -> F,
    ) -> Summary
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let record = Arc::new(Record::new());
        let under_way = UnderWay { tasks: JoinSet::new(), record: record.clone(), patience: self.patience };
        let start = Instant::now();
        let mut left = match timing.workers {
            Some(workers) => closed(timing.lasts(), workers, under_way, progress, request).await,
            None => self.open(timing, under_way, progress, request).await,
        };
        while left.tasks.join_next().await.is_some() {
            progress.show(start.elapsed(), &record);
        }
        progress.end();
        record.summary(start.elapsed())
    }

    async fn open<F>(
        &self,
        timing: &Timing,
        mut under_way: UnderWay,
        progress: &Progress,
        mut request: impl FnMut() -> F,
    ) -> UnderWay
    where
        F: Future<Output = Outcome> + Send + 'static,
    {
        let start = Instant::now();
        for time in timing.arrivals(self.seed) {
            let due = start + time;
            sleep_until(due).await;
            while under_way.tasks.try_join_next().is_some() {}
            progress.show(start.elapsed(), &under_way.record);
            if under_way.tasks.len() < self.most {
                under_way.send(due, request());
            } else {
                let outcome = Outcome::Failed("too many under way".into());
                under_way.record.note(outcome, Duration::ZERO);
            }
        }
        under_way
    }
}

async fn closed<F>(
    lasts: Duration,
    workers: usize,
    mut under_way: UnderWay,
    progress: &Progress,
    mut request: impl FnMut() -> F,
) -> UnderWay
where
    F: Future<Output = Outcome> + Send + 'static,
{
    let start = Instant::now();
    while start.elapsed() < lasts {
        while under_way.tasks.len() < workers {
            under_way.send(Instant::now(), request());
        }
        under_way.tasks.join_next().await;
        while under_way.tasks.try_join_next().is_some() {}
        progress.show(start.elapsed(), &under_way.record);
    }
    under_way
}

impl UnderWay {
    fn send(&mut self, due: Instant, work: impl Future<Output = Outcome> + Send + 'static) {
        let (record, patience) = (self.record.clone(), self.patience);
        self.tasks.spawn(async move {
            let outcome = timeout(patience, work).await;
            let late = |_| Outcome::Failed("no answer in time".into());
            record.note(outcome.unwrap_or_else(late), due.elapsed());
        });
    }
}
