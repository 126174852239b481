//! How the service is: UP, DEGRADED when something it can do without is missing, DOWN when it cannot serve.
//!
//! The database is vital; Redis and neighbours are not. A database whose pool is nearly used up is a warning. Shown at
//! /health (503 when DOWN) and by the gRPC health protocol. The stores are asked; neighbours are not, their last call
//! tells ([`crate::neighbour`]). One that answers at all is there: whether it is well is for its own health to say.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use serde::Serialize;
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::time::{Instant, timeout};

use crate::{
    neighbour::Neighbour,
    process::{self, Cpu, Memory},
    redis::Redis,
    store::Usage,
};

const PATIENCE: Duration = Duration::from_secs(1);

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum State {
    /// All well.
    Up,
    /// Serving, without something.
    Degraded,
    /// Not serving.
    Down,
    /// A neighbour that was not called lately.
    Unknown,
}

/// Something the service needs.
pub enum Dependency {
    /// Its database: without it the service is DOWN.
    Database(PgPool),
    /// Redis: without it the service is DEGRADED.
    Redis(Redis),
    /// Another service: without it the service is DEGRADED.
    Neighbour(Neighbour),
}

/// The health of one service.
pub struct Health {
    ready: AtomicBool,
    stopping: AtomicBool,
    dependencies: Vec<Dependency>,
    started: Instant,
    cpu: Cpu,
}

/// What /health shows.
#[derive(Debug, Serialize)]
pub struct Report {
    /// How the service is.
    pub status: State,
    #[serde(with = "time::serde::rfc3339")]
    timestamp: OffsetDateTime,
    uptime: u64,
    ready: bool,
    memory: Memory,
    cpu: CpuReport,
    dependencies: BTreeMap<&'static str, DependencyReport>,
}

#[derive(Debug, Serialize)]
struct CpuReport {
    percentage: f64,
}

#[derive(Debug, Serialize)]
struct DependencyReport {
    status: State,
    /// Of the question, or of the last call to a neighbour.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Health {
    /// The health of a service that is starting.
    pub fn new(dependencies: Vec<Dependency>, now: Instant) -> Self {
        Self {
            ready: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            dependencies,
            started: now,
            cpu: Cpu::new(now),
        }
    }

    /// Says that the service has started.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    /// Says that the service is about to stop: it is DOWN to those who ask, and still serves.
    pub fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether the service has started.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// How long the service has been running.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Asks every dependency.
    pub async fn report(&self, now: OffsetDateTime) -> Report {
        let checks = self.dependencies.iter().map(async |dependency| (dependency, dependency.check().await));
        let checked = join_all(checks).await;
        let ready = self.is_ready();
        Report {
            status: overall(
                ready && !self.stopping.load(Ordering::Acquire),
                checked.iter().map(|(d, report)| (d.is_vital(), report.status)),
            ),
            timestamp: now,
            uptime: self.uptime().as_secs(),
            ready,
            memory: process::memory(),
            cpu: CpuReport { percentage: self.cpu.percentage(Instant::now()) },
            dependencies: checked.into_iter().map(|(d, report)| (d.name(), report)).collect(),
        }
    }
}

fn overall(open: bool, dependencies: impl IntoIterator<Item = (bool, State)>) -> State {
    let start = if open { State::Up } else { State::Down };
    dependencies.into_iter().fold(start, |worst, (vital, state)| match (worst, vital, state) {
        (_, _, State::Up | State::Unknown) | (State::Down, _, _) => worst,
        (_, true, State::Down) => State::Down,
        (_, true, State::Degraded) | (_, false, _) => State::Degraded,
    })
}

impl Dependency {
    fn name(&self) -> &'static str {
        match self {
            Dependency::Database(_) => "database",
            Dependency::Redis(_) => "redis",
            Dependency::Neighbour(neighbour) => neighbour.name(),
        }
    }

    fn is_vital(&self) -> bool {
        matches!(self, Dependency::Database(_))
    }

    async fn check(&self) -> DependencyReport {
        match self {
            Dependency::Database(pool) => {
                // Before it is asked, because asking takes a connection too.
                let connections = Some(Usage::of(pool));
                let question = sqlx::query("SELECT 1").execute(pool);
                asked(connections, async { question.await.map(|_| ()).map_err(|error| error.to_string()) })
                    .await
            }
            Dependency::Redis(redis) => {
                let question = ::redis::cmd("PING");
                let answer = async { redis.run::<()>(&question).await.map_err(|error| error.to_string()) };
                asked(None, answer).await
            }
            Dependency::Neighbour(neighbour) => DependencyReport::of_calls(neighbour),
        }
    }
}

impl DependencyReport {
    fn of_calls(neighbour: &Neighbour) -> Self {
        let Some(call) = neighbour.last_call() else {
            return Self { status: State::Unknown, latency_ms: None, connections: None, error: None };
        };
        let (status, error) = judge(call.absence, None);
        Self { status, latency_ms: Some(millis(call.took)), connections: None, error }
    }
}

async fn asked(
    connections: Option<Usage>,
    answer: impl Future<Output = Result<(), String>>,
) -> DependencyReport {
    let started = Instant::now();
    let result = timeout(PATIENCE, answer).await;
    let latency_ms = Some(millis(started.elapsed()));
    let late = || format!("no answer within {PATIENCE:?}");
    let error = result.map_or_else(|_| Some(late()), Result::err);
    let (status, error) = judge(error, connections);
    DependencyReport { status, latency_ms, connections, error }
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e5).round() / 100.0
}

/// A pool without room is why a database did not answer, and no reason to send everybody away.
fn judge(error: Option<String>, connections: Option<Usage>) -> (State, Option<String>) {
    let crowded = connections.filter(|usage| usage.is_nearly_full());
    match (error, crowded) {
        (None, None) => (State::Up, None),
        (Some(error), Some(Usage { in_use, max, .. })) if in_use < max => (State::Down, Some(error)),
        (_, Some(Usage { in_use, max, .. })) => {
            (State::Degraded, Some(format!("{in_use} of {max} connections are in use")))
        }
        (Some(error), None) => (State::Down, Some(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_database_is_down_and_a_missing_neighbour_or_a_full_pool_degraded() {
        use State::{Degraded, Down, Unknown, Up};
        let (vital, other) = (true, false);
        for (ready, dependencies, expect) in [
            (true, vec![], Up),
            (true, vec![(vital, Up), (other, Up)], Up),
            (true, vec![(vital, Up), (other, Down)], Degraded),
            (true, vec![(vital, Up), (other, Unknown)], Up),
            (true, vec![(vital, Degraded), (other, Up)], Degraded),
            (true, vec![(vital, Down), (vital, Degraded)], Down),
            (true, vec![(other, Down), (vital, Down)], Down),
            (true, vec![(vital, Down), (other, Down)], Down),
            (false, vec![(vital, Up)], Down),
        ] {
            assert_eq!(overall(ready, dependencies.clone()), expect, "{ready} {dependencies:?}");
        }
    }
    #[test]
    fn a_crowded_pool_is_degraded_even_if_it_keeps_the_check_waiting() {
        use State::{Degraded, Down, Up};
        let of_ten = |in_use| Some(Usage { open: 10, in_use, max: 10 });
        for (late, connections, expect) in [
            (false, None, Up),
            (false, of_ten(7), Up),
            (false, of_ten(8), Degraded),
            (true, of_ten(10), Degraded),
            (true, of_ten(9), Down),
            (true, of_ten(0), Down),
            (true, None, Down),
        ] {
            let error = late.then(|| "no answer".to_owned());
            assert_eq!(judge(error, connections).0, expect, "{late} {connections:?}");
        }
    }
}
