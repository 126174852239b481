//! What every thread of the proxy shares: the configuration snapshot, the TLS material, the signals.
//!
//! A request loads the snapshot once and keeps it to its end, so a new configuration never changes a request half way
//! and never closes a connection. Snapshots are whole: `build` turns resources into the next one or says what is wrong.
//! Leaves out where resources come from (`config/client.rs` for the operator, `app::Source::Static` for tests).

pub mod apply;
pub mod build;
pub mod client;
pub mod report;
pub mod snapshot;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::drain::Tasks;
use crate::policy::fallback::Cache;
use crate::rate_limit_redis::GlobalLimits;
use crate::reject::{Reason, Reject};
use crate::settings::{Mode, Settings};
use crate::telemetry::{Direction, Telemetry};
use crate::tls::TlsMaterial;
use snapshot::{Address, Destination, Snapshot};

/// Destinations asked for and not yet sent on to the operator; more than this at once is a misbehaving application.
const WANTED_QUEUE: usize = 1024;
/// How long a request waits for a destination's configuration.
const WANTED_DEADLINE: Duration = Duration::from_secs(5);
/// How long after it went away the operator is still waited for to say where an address leads. A moment's break is
/// waited out; while it is gone for longer nothing that is not known already hangs.
const GONE_DEADLINE: Duration = Duration::from_secs(2);

/// Shared by all threads of one proxy.
#[derive(Debug)]
pub struct Shared {
    /// Settings it was started with.
    pub settings: Settings,
    /// What requests read; replaced whole by [`Shared::publish`].
    pub config: ArcSwap<Snapshot>,
    /// Certificate and ready-made TLS configurations; none until the first certificate is there.
    pub identity: ArcSwapOption<TlsMaterial>,
    /// Metrics, traces and the access log.
    pub telemetry: Arc<Telemetry>,
    /// Last good answers, for destinations whose breaker is open.
    pub stale: Arc<Cache>,
    /// Rate limits counted in Redis.
    pub global_limits: GlobalLimits,
    /// Signals of shutdown, and the control thread's tasks.
    pub tasks: Tasks,
    /// Listeners by name (`inbound/http`, `outbound/shop/user:grpc`, `gateway/web`, `admin`) and where they are bound.
    pub bound: watch::Sender<Arc<HashMap<String, SocketAddr>>>,
    /// Whether every listener that the configuration asks for is open.
    listening: AtomicBool,
    /// Requests in flight, all workers.
    pub active_requests: AtomicU32,
    /// Accepted connections open, all workers.
    pub open_connections: AtomicU32,
    published: watch::Sender<u64>,
    certified: watch::Sender<u64>,
    /// Since when there is no configuration stream; none while there is one.
    gone: watch::Sender<Option<Instant>>,
    wanted: mpsc::Sender<Arc<str>>,
}

impl Shared {
    /// Shared state without configuration or certificate. The receiver yields the destinations requests ask for; dropping
    /// it means that what the snapshot does not know does not exist.
    pub fn new(
        settings: Settings,
        telemetry: Arc<Telemetry>,
        tasks: Tasks,
    ) -> (Arc<Self>, mpsc::Receiver<Arc<str>>) {
        let (wanted, asks) = mpsc::channel(WANTED_QUEUE);
        let shared = Self {
            settings,
            config: ArcSwap::from_pointee(Snapshot::default()),
            identity: ArcSwapOption::empty(),
            telemetry,
            stale: Arc::default(),
            global_limits: GlobalLimits::default(),
            tasks,
            bound: watch::Sender::default(),
            listening: AtomicBool::new(false),
            active_requests: AtomicU32::new(0),
            open_connections: AtomicU32::new(0),
            published: watch::Sender::new(0),
            certified: watch::Sender::new(0),
            gone: watch::Sender::new(Some(Instant::now())),
            wanted,
        };
        (Arc::new(shared), asks)
    }

    /// Makes this the configuration of every request that starts from now on.
    pub fn publish(&self, snapshot: Snapshot) {
        self.telemetry.configure(&snapshot);
        self.config.store(Arc::new(snapshot));
        self.published.send_modify(|version| *version += 1);
    }

    /// Changes whenever a snapshot has been published.
    pub fn published(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// Makes this the certificate of every handshake from now on. Connections that are up stay as they are.
    pub fn certify(&self, material: TlsMaterial) {
        self.telemetry.metrics.certificate_renewed(material.not_after);
        self.identity.store(Some(Arc::new(material)));
        self.certified.send_modify(|version| *version += 1);
    }

    /// Puts other roots in force with the same certificate.
    pub fn trust(&self, material: TlsMaterial) {
        self.identity.store(Some(Arc::new(material)));
        self.certified.send_modify(|version| *version += 1);
    }

    /// Changes whenever there is a new certificate, or new roots.
    pub fn certified(&self) -> watch::Receiver<u64> {
        self.certified.subscribe()
    }

    /// Says whether every listener is open.
    pub fn listening(&self, all: bool) {
        self.listening.store(all, Ordering::Relaxed);
    }

    /// Whether every listener that the configuration asks for is open.
    pub fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Relaxed)
    }

    /// Whether it may be sent traffic: configured, certified, not draining.
    pub fn is_ready(&self) -> bool {
        let configured = self.config.load().configured();
        configured && self.identity.load().is_some() && !self.tasks.is_draining()
    }

    /// The destination of this name; asks the operator for it where the snapshot does not hold it yet.
    pub async fn destination(&self, name: &str) -> Result<Arc<Destination>, Reject> {
        match self.config.load().destinations.get(name) {
            Some(destination) => Ok(Arc::clone(destination)),
            // Rare, so it is not to make every request's future larger.
            None => Box::pin(self.want(name)).await,
        }
    }

    /// Where an address leads; none where nobody says so in time. Asks the operator where the snapshot does not hold it.
    pub async fn address(&self, name: &str) -> Result<Option<Address>, Reject> {
        if let Some(address) = self.config.load().addresses.get(name) {
            return Ok(Some(address.clone()));
        }
        let (mut published, mut gone) = (self.published(), self.gone.subscribe());
        match self.ask(name) {
            Err(reject) if reject.reason == Reason::UnknownDestination => return Ok(None),
            asked => asked?,
        }
        let asked = Instant::now();
        loop {
            if let Some(address) = self.config.load().addresses.get(name) {
                return Ok(Some(address.clone()));
            }
            let since = *gone.borrow_and_update();
            let patience = asked + WANTED_DEADLINE;
            let until = since.map_or(patience, |since| patience.min(since + GONE_DEADLINE));
            tokio::select! {
                changed = published.changed() => if changed.is_err() { return Err(Reason::Draining.into()) },
                changed = gone.changed() => if changed.is_err() { return Err(Reason::Draining.into()) },
                () = sleep_until(until) => return Ok(None),
            }
        }
    }

    /// Waits until the proxy has been told who it is: nothing passes before.
    pub async fn configured(&self) -> Result<(), Reject> {
        let mut published = self.published();
        let configured = published.wait_for(|_| self.config.load().configured());
        match timeout(WANTED_DEADLINE, configured).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Reason::Draining.into()),
            Err(_) => Err(Reason::NotReady.into()),
        }
    }

    /// Says whether there is a configuration stream.
    pub fn connected(&self, connected: bool) {
        self.telemetry.metrics.config.connected.set(i64::from(connected));
        self.gone.send_if_modified(|gone| {
            let changed = gone.is_some() == connected;
            if changed {
                *gone = (!connected).then(Instant::now);
            }
            changed
        });
    }

    fn ask(&self, name: &str) -> Result<(), Reject> {
        self.wanted.try_send(name.into()).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Reason::NotReady.into(),
            mpsc::error::TrySendError::Closed(_) => Reason::UnknownDestination.into(),
        })
    }

    async fn want(&self, name: &str) -> Result<Arc<Destination>, Reject> {
        let published = self.published();
        self.ask(name)?;
        let arrives = self.arrives(name, published);
        timeout(WANTED_DEADLINE, arrives).await.unwrap_or_else(|_| Err(Reason::NotReady.into()))
    }

    async fn arrives(
        &self,
        name: &str,
        mut published: watch::Receiver<u64>,
    ) -> Result<Arc<Destination>, Reject> {
        loop {
            let config = self.config.load_full();
            if let Some(destination) = config.destinations.get(name) {
                return Ok(Arc::clone(destination));
            }
            if config.unknown.contains(name) {
                return Err(Reason::UnknownDestination.into());
            }
            if published.changed().await.is_err() {
                return Err(Reason::Draining.into());
            }
        }
    }

    /// Which way requests to destinations go: outbound beside a workload, or through a gateway.
    pub fn direction(&self) -> Direction {
        if self.settings.mode == Some(Mode::Gateway) { Direction::Gateway } else { Direction::Outbound }
    }

    /// Counts one more request in flight until the guard is dropped.
    pub fn request_started(self: &Arc<Self>) -> Counted {
        self.active_requests.fetch_add(1, Ordering::Relaxed);
        Counted { shared: Arc::clone(self), what: |shared| &shared.active_requests }
    }

    /// Counts one more open connection until the guard is dropped.
    pub fn connection_opened(self: &Arc<Self>) -> Counted {
        self.open_connections.fetch_add(1, Ordering::Relaxed);
        Counted { shared: Arc::clone(self), what: |shared| &shared.open_connections }
    }
}

/// Something counted while it lives.
#[derive(Debug)]
pub struct Counted {
    shared: Arc<Shared>,
    what: fn(&Shared) -> &AtomicU32,
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.what)(&self.shared).fetch_sub(1, Ordering::Relaxed);
    }
}
