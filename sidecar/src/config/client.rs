//! The configuration stream to the operator: says Hello with what is held, applies deltas and acks or refuses them,
//! asks for destinations that requests need, reports back. One task of the control plane, [`run`].
//!
//! While the operator is gone, traffic goes on over the last good snapshot; what is asked for meanwhile is asked again
//! with the next Hello. Leaves out what a delta means (`apply.rs`) and what a report says (`report.rs`).

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tracing::{debug, info, warn};
use weft_api::names::{self, ALPN_H2};
use weft_api::tls::{TlsError, client_config};
use weft_api::v1::config_client::ConfigClient;
use weft_api::v1::config_request::Body;
use weft_api::v1::resource::Body as ResourceBody;
use weft_api::v1::{self, ConfigRequest, Delta, Kind, ResourceVersion};

use crate::certs;
use crate::config::Shared;
use crate::config::apply::apply;
use crate::config::report::Reporter;
use crate::config::snapshot::Snapshot;
use crate::operator::{Backoff, causes, connect};

/// Messages on their way to the operator; when it reads none of them for [`SEND`], the stream is given up.
const OUTGOING: usize = 64;
const SEND: Duration = Duration::from_secs(5);
/// How long the operator may take to accept the stream.
const SUBSCRIBE: Duration = Duration::from_secs(10);
const REPORT_EVERY: Duration = Duration::from_secs(5);
/// Reports of breaker changes come no closer than this.
const REPORT_GAP: Duration = Duration::from_millis(200);
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// Destinations and addresses one proxy may ask for; the operator ends a stream that asks for more than 4096.
const MAX_WANTED: usize = 4000;
/// Addresses beyond which the oldest ones are forgotten that lead nowhere in the mesh: an application that calls half the
/// internet must not use up what it may ask for.
const MAX_ADDRESSES: usize = 1024;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum StreamError {
    /// The certificate cannot be used for TLS.
    #[error("using the certificate towards the operator")]
    Tls(#[source] TlsError),
    /// No connection.
    #[error("connecting to the operator")]
    Connect(#[source] tonic::transport::Error),
    /// The operator refused or broke the stream.
    #[error("the operator ended the stream: {}", .0.message())]
    Ended(#[source] Box<tonic::Status>),
    /// The operator closed it without words.
    #[error("the operator closed the stream")]
    Closed,
    /// It does not read what it is sent, or did not accept in time.
    #[error("the operator does not answer")]
    Stuck,
}

impl From<tonic::Status> for StreamError {
    fn from(status: tonic::Status) -> Self {
        Self::Ended(Box::new(status))
    }
}

/// Keeps the stream up until told to finish. `asks` yields the destinations that requests wait for.
pub async fn run(shared: Arc<Shared>, asks: mpsc::Receiver<Arc<str>>, finish: CancellationToken) {
    let client = Client {
        reporter: Reporter::default(),
        wanted: BTreeSet::new(),
        addresses: VecDeque::new(),
        forget: Vec::new(),
        shared,
        asks,
    };
    tokio::select! {
        () = client.keep_up() => {}
        () = finish.cancelled() => {}
    }
}

struct Client {
    shared: Arc<Shared>,
    asks: mpsc::Receiver<Arc<str>>,
    reporter: Reporter,
    /// Destinations asked for since the start, the ones that do not exist included.
    wanted: BTreeSet<String>,
    /// The addresses among them, the oldest first.
    addresses: VecDeque<String>,
    /// Addresses to be said to the operator that they are not wanted any more.
    forget: Vec<String>,
}

impl Client {
    async fn keep_up(mut self) {
        let mut certified = self.shared.certified();
        while self.shared.identity.load().is_none() {
            if certified.changed().await.is_err() {
                return;
            }
        }
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        let mut failing = false;
        loop {
            let mut lived = false;
            let error = match self.stream(&mut lived).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            self.shared.connected(false);
            if lived {
                backoff.reset();
                failing = false;
            }
            self.tell(&error, failing);
            failing = true;
            self.wait(backoff.next(rand::random())).await;
        }
    }

    /// Says once why the operator is gone, not at every attempt.
    fn tell(&self, error: &StreamError, failing: bool) {
        let error = causes(error);
        if failing {
            debug!(error, "operator still cannot be reached");
        } else if self.shared.config.load().configured() {
            warn!(error, "operator cannot be reached; serving on with the last good configuration");
        } else {
            warn!(error, "operator cannot be reached; waiting for the first configuration");
        }
    }

    /// Waits, and meanwhile notes what requests ask for.
    async fn wait(&mut self, delay: Duration) {
        let over = sleep(delay);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return,
                Some(name) = self.asks.recv() => drop(self.note(&name)),
            }
        }
    }

    /// One stream, from Hello to the error that ends it. `lived` says whether the operator ever accepted it.
    async fn stream(&mut self, lived: &mut bool) -> Result<Infallible, StreamError> {
        let (outgoing, mut deltas) = self.subscribe().await?;
        *lived = true;
        self.shared.connected(true);
        info!(operator = self.shared.settings.operator, "configuration stream is up");
        let moved = Arc::clone(&self.shared.telemetry.metrics.breaker_moved);
        let draining = self.shared.tasks.draining();
        let mut said_draining = false;
        let mut ticks = interval(REPORT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reported = Instant::now();
        loop {
            tokio::select! {
                delta = deltas.message() => {
                    let delta = delta?.ok_or(StreamError::Closed)?;
                    self.take(delta, &outgoing).await?;
                }
                Some(name) = self.asks.recv() => self.ask(&name, &outgoing).await?,
                _ = ticks.tick() => self.report(&outgoing),
                () = moved.notified() => {
                    tokio::time::sleep_until(reported + REPORT_GAP).await;
                    reported = Instant::now();
                    self.report(&outgoing);
                }
                () = draining.cancelled(), if !said_draining => {
                    said_draining = true;
                    self.report(&outgoing);
                }
            }
        }
    }

    async fn subscribe(&mut self) -> Result<(mpsc::Sender<ConfigRequest>, Streaming<Delta>), StreamError> {
        // The certificate is taken anew for each stream; it may have been renewed.
        let identity = self.shared.identity.load_full().ok_or(StreamError::Closed)?;
        let identity = certs::towards_operator(&self.shared.settings, &identity.identity);
        let tls = client_config(&identity, &[ALPN_H2]).map_err(StreamError::Tls)?;
        let channel =
            connect(&self.shared.settings.operator, Arc::new(tls)).await.map_err(StreamError::Connect)?;
        let (outgoing, messages) = mpsc::channel(OUTGOING);
        send(&outgoing, Body::Hello(self.hello())).await?;
        let mut client = ConfigClient::new(channel);
        let subscribed = client.subscribe(ReceiverStream::new(messages));
        let answer = timeout(SUBSCRIBE, subscribed).await.map_err(|_| StreamError::Stuck)??;
        Ok((outgoing, answer.into_inner()))
    }

    fn hello(&mut self) -> v1::Hello {
        while let Ok(name) = self.asks.try_recv() {
            self.note(&name);
        }
        // What this stream does not ask for, it need not forget.
        self.forget.clear();
        let snapshot = self.shared.config.load();
        let version = |((kind, name), resource): (&(Kind, String), &Arc<v1::Resource>)| ResourceVersion {
            kind: (*kind).into(),
            name: name.clone(),
            version: resource.version.clone(),
        };
        v1::Hello {
            workload: self.shared.settings.workload.clone(),
            instance: self.shared.settings.instance.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            have: snapshot.resources.iter().map(version).collect(),
            want: self.wanted.iter().cloned().collect(),
        }
    }

    async fn take(
        &mut self,
        delta: Delta,
        outgoing: &mpsc::Sender<ConfigRequest>,
    ) -> Result<(), StreamError> {
        let nonce = delta.nonce.clone();
        let (upserts, removals) = (delta.upserts.len(), delta.removals.len());
        let previous = self.shared.config.load_full();
        match apply(&previous, delta) {
            Ok(snapshot) => {
                debug!(nonce, upserts, removals, "configuration applied");
                let needed = needed(&snapshot);
                self.shared.publish(snapshot);
                send(outgoing, Body::Ack(v1::Ack { nonce })).await?;
                let new: Vec<String> = needed.into_iter().filter(|name| self.note(name)).collect();
                self.want(new, outgoing).await
            }
            Err(errors) => {
                self.shared.telemetry.metrics.config.rejected.inc();
                for error in &errors {
                    let (kind, name, message) = (error.kind().as_str_name(), &error.name, &error.message);
                    warn!(kind, name, message, "configuration refused; the last good one stays");
                }
                send(outgoing, Body::Nack(v1::Nack { nonce, errors })).await
            }
        }
    }

    /// Asks for one destination and for whatever else is asked for at the moment.
    async fn ask(&mut self, name: &str, outgoing: &mpsc::Sender<ConfigRequest>) -> Result<(), StreamError> {
        let mut new = Vec::new();
        if self.note(name) {
            new.push(name.to_owned());
        }
        while let Ok(name) = self.asks.try_recv() {
            if self.note(&name) {
                new.push(name.to_string());
            }
        }
        self.want(new, outgoing).await
    }

    async fn want(
        &mut self,
        destinations: Vec<String>,
        outgoing: &mpsc::Sender<ConfigRequest>,
    ) -> Result<(), StreamError> {
        if destinations.is_empty() {
            return Ok(());
        }
        let forget = std::mem::take(&mut self.forget);
        send(outgoing, Body::Want(v1::Want { destinations, forget })).await
    }

    /// Remembers that this destination is wanted. True: it must still be asked for.
    fn note(&mut self, name: &str) -> bool {
        if self.wanted.contains(name) {
            return false;
        }
        if self.wanted.len() >= MAX_WANTED {
            warn!(name, "more than {MAX_WANTED} destinations are asked for; this one is not");
            return false;
        }
        if names::Address::parse(name).is_some() {
            self.note_address(name);
        }
        self.wanted.insert(name.to_owned())
    }

    /// Remembers an address, and forgets the oldest one that leads nowhere where there are too many.
    fn note_address(&mut self, name: &str) {
        self.addresses.push_back(name.to_owned());
        if self.addresses.len() <= MAX_ADDRESSES {
            return;
        }
        let config = self.shared.config.load();
        let leads =
            |name: &String| config.addresses.get(name.as_str()).is_some_and(|a| a.destination.is_some());
        let oldest = self.addresses.iter().position(|name| !leads(name));
        if let Some(name) = oldest.and_then(|at| self.addresses.remove(at)) {
            self.wanted.remove(&name);
            self.forget.push(name);
        }
    }

    /// A report is left out while the operator is slow to read; the next one carries its sums.
    fn report(&mut self, outgoing: &mpsc::Sender<ConfigRequest>) {
        if let Ok(place) = outgoing.try_reserve() {
            let report = self.reporter.report(&self.shared);
            place.send(ConfigRequest { body: Some(Body::Report(report)) });
        }
    }
}

/// Destinations that this configuration itself names: explicit listeners and the backends of routes. They are asked for
/// at once, so that they are there should the operator go before their first request.
fn needed(snapshot: &Snapshot) -> BTreeSet<String> {
    let mut names: BTreeSet<String> =
        snapshot.proxy.outbound.iter().map(|listener| listener.destination.to_string()).collect();
    for resource in snapshot.resources.values() {
        if let Some(ResourceBody::Routes(routes)) = &resource.body {
            let backends = routes.routes.iter().flat_map(|route| &route.backends);
            names.extend(backends.map(|backend| backend.destination.clone()).filter(|name| !name.is_empty()));
        }
    }
    names
}

async fn send(outgoing: &mpsc::Sender<ConfigRequest>, body: Body) -> Result<(), StreamError> {
    let message = ConfigRequest { body: Some(body) };
    match timeout(SEND, outgoing.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(StreamError::Closed),
        Err(_) => Err(StreamError::Stuck),
    }
}
