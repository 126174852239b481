//! One worker: a thread with its own runtime, connections and pools. Accepted connections are handed to the least
//! loaded one and stay there; nothing of a request ever crosses threads.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, warn};

use super::connections::{Connections, Patience};
use super::handshakes::Handshakes;
use super::listen::{Entry, Place};
use crate::config::Shared;
use crate::drain::Tasks;
use crate::upstream::pool::Pool;
use crate::upstream::warm::Warmer;
use crate::{gateway, inbound, outbound};

/// Connections handed over and not yet taken; beyond it the acceptor waits.
const QUEUE: usize = 1024;
/// How often connections and pools are looked after.
const TICK: Duration = Duration::from_millis(500);

/// What everything on one worker thread shares.
#[derive(Debug)]
pub struct Worker {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// This worker's tasks.
    pub tasks: Tasks,
    /// Accepted connections.
    pub connections: Rc<Connections>,
    /// TLS handshakes under way.
    pub handshakes: Handshakes,
    /// Connections made.
    pub pool: Pool,
}

/// A connection on its way to a worker.
#[derive(Debug)]
pub struct Accepted {
    /// Nonblocking, not registered with any runtime.
    pub stream: std::net::TcpStream,
    /// Who connected.
    pub peer: SocketAddr,
    /// Through which listener.
    pub entry: Entry,
    /// Among the connections that this listener may have.
    pub place: Place,
}

/// The acceptor's side of a worker.
#[derive(Debug)]
pub struct Lane {
    queue: mpsc::Sender<Accepted>,
    load: Arc<AtomicUsize>,
}

/// A worker's thread and how it is stopped: by the deadline up to which its connections may go on.
#[derive(Debug)]
pub struct Running {
    /// Its thread; ends after the drain.
    pub thread: JoinHandle<()>,
    /// Send once.
    pub stop: mpsc::Sender<Instant>,
}

/// Starts a worker thread.
pub fn start(index: usize, shared: &Arc<Shared>) -> std::io::Result<(Lane, Running)> {
    let (queue, accepted) = mpsc::channel(QUEUE);
    let (stop, stopped) = mpsc::channel(1);
    let load = Arc::new(AtomicUsize::new(0));
    let lane = Lane { queue, load: Arc::clone(&load) };
    let shared = Arc::clone(shared);
    let (built, ready) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        // A local runtime must be made on the thread it stays on; everything it runs may be bound to that thread.
        let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime,
            Err(error) => return drop(built.send(Err(error))),
        };
        drop(built.send(Ok(())));
        let tasks = shared.tasks.sibling();
        let handshakes = Handshakes::new(shared.settings.limits.max_handshakes);
        let worker = Worker { shared, tasks, connections: Rc::default(), handshakes, pool: Pool::default() };
        runtime.block_on(run(Rc::new(worker), accepted, stopped, load));
    })?;
    ready.recv().map_err(|_| std::io::Error::other("the worker ended at once"))??;
    Ok((lane, Running { thread, stop }))
}

/// Hands a connection to the least loaded worker.
pub async fn dispatch(lanes: &[Lane], accepted: Accepted) {
    let Some(lane) = lanes.iter().min_by_key(|lane| lane.load.load(Ordering::Relaxed)) else { return };
    lane.load.fetch_add(1, Ordering::Relaxed);
    if lane.queue.send(accepted).await.is_err() {
        lane.load.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn run(
    worker: Rc<Worker>,
    mut accepted: mpsc::Receiver<Accepted>,
    mut stopped: mpsc::Receiver<Instant>,
    load: Arc<AtomicUsize>,
) {
    let draining = worker.tasks.draining();
    let mut told = false;
    let mut published = worker.shared.published();
    let mut warmer = Warmer::new(worker.shared.config.load_full());
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let deadline = loop {
        tokio::select! {
            Some(connection) = accepted.recv() => take(&worker, connection, &load),
            _ = ticks.tick() => {
                let settings = &worker.shared.settings;
                let patience = Patience {
                    head: settings.client_header_timeout,
                    body: settings.client_body_timeout,
                    idle: settings.client_idle_timeout,
                };
                worker.connections.tick(TICK, &patience);
                worker.pool.sweep(Instant::now());
                warmer.go_on(&worker);
            }
            Ok(()) = published.changed(), if !told => warmer.look(&worker),
            () = draining.cancelled(), if !told => {
                told = true;
                worker.connections.drain();
            }
            deadline = stopped.recv() => break deadline.unwrap_or_else(Instant::now),
        }
    };
    worker.pool.clear();
    let clean = worker.tasks.drain_local(deadline.saturating_duration_since(Instant::now())).await;
    debug!(clean, "worker stopped");
}

fn take(worker: &Rc<Worker>, accepted: Accepted, load: &Arc<AtomicUsize>) {
    let load = Loaded(Arc::clone(load));
    let stream = match TcpStream::from_std(accepted.stream) {
        Ok(stream) => stream,
        Err(error) => return warn!(%error, "accepted connection cannot be used"),
    };
    let worker = Rc::clone(worker);
    let tasks = worker.tasks.clone();
    tasks.spawn_local(async move {
        let _open = worker.shared.connection_opened();
        let _counted = (load, accepted.place);
        match accepted.entry {
            Entry::Inbound(port) => inbound::serve(&worker, stream, accepted.peer, &port).await,
            Entry::InboundRedirected => inbound::serve_redirected(&worker, stream, accepted.peer).await,
            Entry::Outbound(to) => outbound::serve(&worker, stream, accepted.peer, &to).await,
            Entry::OutboundRedirected => outbound::serve_redirected(&worker, stream, accepted.peer).await,
            Entry::Gateway(listener) => gateway::serve(&worker, stream, accepted.peer, &listener).await,
        }
    });
}

/// One connection of a worker's load.
struct Loaded(Arc<AtomicUsize>);

impl Drop for Loaded {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
