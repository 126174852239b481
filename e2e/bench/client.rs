//! The load's clients, on one thread: each is written to cost as little as it can, since it shares the machine with what
//! it measures, and checks status and length of every answer.

mod http1;
mod http2;
mod tls;
pub(crate) mod websocket;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use rustls::RootCertStore;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep};

use crate::loads::{Load, Shape};

/// Authority of every request, and the name in the certificate at the edge.
pub(crate) const HOST: &str = "origin.bench.svc";
const STALL: Duration = Duration::from_secs(5);

/// Who sends: the same on every path.
pub(crate) struct Caller {
    /// Token that every request carries.
    pub(crate) token: String,
    /// What certificates at the edge are judged by.
    pub(crate) roots: Arc<RootCertStore>,
}

/// What came of a load.
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
    /// Microseconds.
    pub(crate) latency: Histogram<u64>,
}

/// Sends a load for this long. Errors on the first answer that is not what was asked for, and when none comes.
pub(crate) async fn run(
    caller: &Caller,
    address: SocketAddr,
    load: &Load,
    duration: Duration,
) -> Result<Outcome> {
    let record = Rc::new(Record::new(duration)?);
    let local = LocalSet::new();
    let tasks = start(caller, address, load, &record, &local)?;
    local
        .run_until(async {
            tokio::select! {
                done = finished(tasks) => done,
                stalled = record.watch() => stalled,
            }
        })
        .await?;
    drop(local);
    let record = Rc::into_inner(record).context("a connection outlived the run")?;
    let latency = record.latency.into_inner();
    Ok(Outcome { requests: latency.len(), elapsed: Instant::now() - record.begin, latency })
}

fn start(
    caller: &Caller,
    address: SocketAddr,
    load: &Load,
    record: &Rc<Record>,
    local: &LocalSet,
) -> Result<JoinSet<Result<()>>> {
    let mut tasks = JoinSet::new();
    let request = http1::Request::new(load.path(), &caller.token, load.answer, load.shape);
    match load.shape {
        Shape::Closed { connections } => {
            for _ in 0..connections {
                tasks.spawn_local_on(http1::closed(address, request.clone(), record.clone()), local);
            }
        }
        Shape::Fixed { connections, rate } => {
            for index in 0..connections {
                let pace = http1::Pace::new(rate, connections, index, record.begin);
                tasks.spawn_local_on(http1::fixed(address, request.clone(), pace, record.clone()), local);
            }
        }
        Shape::Streams { connections, streams, grpc } => {
            for _ in 0..connections {
                let call = http2::Call { token: caller.token.clone(), grpc, answer: load.answer, streams };
                tasks.spawn_local_on(http2::connection(address, call, record.clone()), local);
            }
        }
        Shape::Connections { at_once, tls: None } => {
            for index in 0..at_once {
                let worker = http1::connections(address, request.clone(), index, record.clone());
                tasks.spawn_local_on(worker, local);
            }
        }
        Shape::Connections { at_once, tls: Some(handshake) } => {
            for index in 0..at_once {
                let client = tls::Client::new(caller.roots.clone(), handshake)?;
                let worker = tls::connections(client, address, request.clone(), index, record.clone());
                tasks.spawn_local_on(worker, local);
            }
        }
        Shape::WebSockets { .. } => bail!("WebSockets are held open, not sent"),
    }
    Ok(tasks)
}

async fn finished(mut tasks: JoinSet<Result<()>>) -> Result<()> {
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// What the connections of a load share.
struct Record {
    begin: Instant,
    end: Instant,
    latency: RefCell<Histogram<u64>>,
    answers: Cell<u64>,
}

impl Record {
    fn new(duration: Duration) -> Result<Self> {
        let begin = Instant::now() + Duration::from_millis(50);
        let latency = RefCell::new(Histogram::new_with_bounds(1, 60_000_000, 3)?);
        Ok(Self { begin, end: begin + duration, latency, answers: Cell::new(0) })
    }

    /// Counts an answer that came now to a request that counts from `since`, and says when now is.
    fn answer(&self, since: Instant) -> Instant {
        let now = Instant::now();
        let micros = u64::try_from((now - since).as_micros()).unwrap_or(u64::MAX);
        self.latency.borrow_mut().saturating_record(micros.max(1));
        self.answers.set(self.answers.get() + 1);
        now
    }

    /// Ends with an error when no answer has come for a while.
    async fn watch(&self) -> Result<()> {
        loop {
            let before = self.answers.get();
            sleep(STALL).await;
            if self.answers.get() == before {
                bail!("no answer within {STALL:?}");
            }
        }
    }
}
