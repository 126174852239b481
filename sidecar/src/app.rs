//! Puts the proxy together: threads, listeners, control plane; and takes it down again.
//! The same in a pod, standalone, and inside a test: only the [`Source`] of the configuration differs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use weft_api::tls::Identity;
use weft_api::v1;

use crate::certs;
use crate::config::build::{build, index};
use crate::config::{Shared, client};
use crate::control;
use crate::drain::Tasks;
use crate::net::listen::Listeners;
use crate::net::worker::{self, Lane, Running};
use crate::settings::Settings;
use crate::telemetry::{Outlets, Telemetry};
use crate::tls::TlsMaterial;

/// How often a drain looks whether everything is idle.
const LOOK: Duration = Duration::from_millis(10);
/// Part of the deadline kept for closing what is left.
const CLOSE: Duration = Duration::from_millis(200);

/// Where configuration and certificates come from.
#[derive(Debug)]
pub enum Source {
    /// The operator named in the settings.
    Operator,
    /// Given once: tests and benches. [`Handle::replace`] changes it.
    Static(Vec<v1::Resource>, Arc<Identity>),
}

/// A proxy.
#[derive(Debug)]
pub struct Proxy;

/// A running proxy. Dropping it stops the proxy at once.
#[derive(Debug)]
pub struct Handle {
    /// What its threads share.
    pub shared: Arc<Shared>,
    stop: mpsc::Sender<Stop>,
    control: Option<JoinHandle<()>>,
}

/// Asks the control thread to shut down.
#[derive(Debug)]
struct Stop {
    deadline: Duration,
    stopped: oneshot::Sender<bool>,
}

impl Proxy {
    /// Starts a proxy on threads of its own. With a static source its listeners are open when this returns.
    pub fn start(settings: Settings, source: Source) -> anyhow::Result<Handle> {
        let (telemetry, outlets) = Telemetry::new(&settings.workload);
        let (shared, asks) = Shared::new(settings, telemetry, Tasks::new());
        let operated = matches!(source, Source::Operator);
        if let Source::Static(resources, identity) = source {
            shared.certify(TlsMaterial::new(identity).context("using the identity")?);
            publish(&shared, resources)?;
        }
        let (lanes, workers) = (0..shared.settings.worker_count())
            .map(|index| worker::start(index, &shared))
            .collect::<std::io::Result<(Vec<Lane>, Vec<Running>)>>()
            .context("starting the workers")?;
        let (stop, stops) = mpsc::channel(1);
        let (opened, open) = std::sync::mpsc::sync_channel(1);
        let control = Control {
            shared: Arc::clone(&shared),
            lanes: lanes.into(),
            workers,
            stops,
            finish: CancellationToken::new(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let asks = operated.then_some(asks);
        let thread = std::thread::Builder::new()
            .name("control".into())
            .spawn(move || runtime.block_on(control.start(outlets, asks, opened)))?;
        let handle = Handle { shared, stop, control: Some(thread) };
        let (ports, followed) = open.recv().context("the control thread ended")?;
        ports?;
        if !operated {
            followed.context("opening the listeners")?;
        }
        Ok(handle)
    }
}

impl Handle {
    /// Where a listener is bound (`inbound/http`, `outbound/shop/user:http`, `gateway/web`, `admin`).
    pub fn address(&self, listener: &str) -> Option<SocketAddr> {
        self.shared.bound.borrow().get(listener).copied()
    }

    /// Replaces a static configuration whole.
    pub fn replace(&self, resources: Vec<v1::Resource>) -> anyhow::Result<()> {
        publish(&self.shared, resources)
    }

    /// Drains: not ready any more, finishes what is in flight, then stops; at the deadline at the latest. Returns whether
    /// everything ended by itself.
    pub async fn shutdown(mut self, deadline: Duration) -> bool {
        let (stopped, done) = oneshot::channel();
        let asked = self.stop.send(Stop { deadline, stopped }).await.is_ok();
        let clean = asked && done.await.unwrap_or(false);
        self.join();
        clean
    }

    fn join(&mut self) {
        if let Some(control) = self.control.take()
            && control.join().is_err()
        {
            warn!("the control thread panicked");
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.control.is_some() {
            let (stopped, _) = oneshot::channel();
            if self.stop.try_send(Stop { deadline: Duration::ZERO, stopped }).is_ok() {
                self.join();
            }
        }
    }
}

fn publish(shared: &Shared, resources: Vec<v1::Resource>) -> anyhow::Result<()> {
    let snapshot = build(index(resources), &shared.config.load()).map_err(|errors| {
        let words: Vec<String> = errors.iter().map(|e| format!("{}: {}", e.name, e.message)).collect();
        anyhow!("configuration cannot be used: {}", words.join("; "))
    })?;
    shared.publish(snapshot);
    Ok(())
}

/// The control thread.
struct Control {
    shared: Arc<Shared>,
    lanes: Arc<[Lane]>,
    workers: Vec<Running>,
    stops: mpsc::Receiver<Stop>,
    /// Ends what must go on during the drain: telemetry, and the connection to the operator.
    finish: CancellationToken,
}

type Opened = (Result<(), control::PortError>, std::io::Result<()>);

impl Control {
    /// Spawns the tasks of the control plane, opens all ports, says so, and goes on until told to stop.
    async fn start(
        self,
        outlets: Outlets,
        asks: Option<mpsc::Receiver<Arc<str>>>,
        opened: std::sync::mpsc::SyncSender<Opened>,
    ) {
        let (shared, finish) = (&self.shared, &self.finish);
        outlets.spawn(&shared.tasks, finish);
        if let Some(asks) = asks {
            shared.tasks.spawn("certificates", certs::run(Arc::clone(shared), finish.clone()));
            shared.tasks.spawn("configuration", client::run(Arc::clone(shared), asks, finish.clone()));
        }
        let mut listeners = Listeners::new(shared, Arc::clone(&self.lanes));
        let ports = control::open(shared, finish);
        let followed = listeners.follow(&shared.config.load());
        drop(opened.send((ports, followed)));
        self.run(listeners).await;
    }

    async fn run(mut self, mut listeners: Listeners) {
        let mut published = self.shared.published();
        let stop = loop {
            tokio::select! {
                stop = self.stops.recv() => break stop,
                Ok(()) = published.changed() => {
                    // Each failure has been logged; the next snapshot tries again.
                    let snapshot = self.shared.config.load_full();
                    drop(listeners.follow(&snapshot));
                }
            }
        };
        let (deadline, stopped) = match stop {
            Some(Stop { deadline, stopped }) => (deadline, Some(stopped)),
            None => (Duration::ZERO, None),
        };
        let clean = self.stop(listeners, deadline).await;
        if let Some(stopped) = stopped
            && stopped.send(clean).is_err()
        {
            warn!("nobody waits for the end of the drain any more");
        }
    }

    /// New connections are still taken while peers learn that this instance goes away; each is told to close.
    async fn stop(self, mut listeners: Listeners, deadline: Duration) -> bool {
        let end = Instant::now() + deadline;
        info!(?deadline, "draining");
        self.shared.tasks.begin();
        let idle = timeout(deadline.saturating_sub(CLOSE), until_idle(&self.shared)).await.is_ok();
        listeners.close();
        for worker in &self.workers {
            if worker.stop.send(end).await.is_err() {
                warn!("a worker ended early");
            }
        }
        self.finish.cancel();
        let left = end.saturating_duration_since(Instant::now());
        let clean = self.shared.tasks.drain(left).await;
        for worker in self.workers {
            if worker.thread.join().is_err() {
                warn!("a worker panicked");
            }
        }
        idle && clean
    }
}

async fn until_idle(shared: &Shared) {
    while shared.open_connections.load(Ordering::Relaxed) > 0 {
        sleep(LOOK).await;
    }
}
