//! `Config.Subscribe`: one stream per proxy. The stream is a state machine that its connection polls: it waits for a
//! new target or a message of the proxy, and yields the next delta when there is one. No task, no queue: while a proxy
//! is slow nothing is made for it. The protocol's rules are in [`held`]; who may subscribe is decided by the reconciler.

mod held;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::{debug, info, warn};
use weft_api::v1::config_request::Body;
use weft_api::v1::config_server::Config;
use weft_api::v1::{ConfigRequest, Delta, Hello, Nack};

use self::held::Held;
use super::Peer;
use crate::event::{Event, Hub, Open, OpenError};
use crate::metrics::Metrics;
use crate::publish::{StreamId, Subscription, Target};

const HELLO_WITHIN: Duration = Duration::from_secs(10);
const ACK_WITHIN: Duration = Duration::from_secs(30);
/// More destinations than any proxy calls; a bound for what one stream can make the operator hold.
const MAX_WANTED: usize = 4096;

/// The configuration service.
#[derive(Clone, Debug)]
pub(crate) struct ConfigService {
    pub(crate) hub: Hub,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) stopping: CancellationToken,
}

type Deltas = Pin<Box<dyn Stream<Item = Result<Delta, Status>> + Send>>;

#[tonic::async_trait]
impl Config for ConfigService {
    type SubscribeStream = Deltas;

    async fn subscribe(
        &self,
        request: Request<Streaming<ConfigRequest>>,
    ) -> Result<Response<Deltas>, Status> {
        let Some(peer) = request.extensions().get::<Option<Peer>>().cloned().flatten() else {
            let why = "configuration needs a client certificate; get one from Identity.Sign";
            return Err(Status::permission_denied(why));
        };
        let opening = Opening { service: self.clone(), peer, messages: request.into_inner() };
        // The answer's headers go out at once: a client may wait for them before it says Hello.
        let deltas = stream::try_unfold(Phase::Opening(Box::new(opening)), Phase::next);
        Ok(Response::new(Box::pin(deltas)))
    }
}

/// A stream's life.
enum Phase {
    /// Before Hello.
    Opening(Box<Opening>),
    /// Subscribed.
    Open(Box<Session>),
}

impl Phase {
    async fn next(self) -> Result<Option<(Delta, Self)>, Status> {
        let mut session = match self {
            Self::Opening(opening) => match opening.open().await? {
                Some(session) => Box::new(session),
                None => return Ok(None),
            },
            Self::Open(session) => session,
        };
        let delta = session.next_delta().await?;
        Ok(delta.map(|delta| (delta, Self::Open(session))))
    }
}

struct Opening {
    service: ConfigService,
    peer: Peer,
    messages: Streaming<ConfigRequest>,
}

impl Opening {
    async fn open(mut self) -> Result<Option<Session>, Status> {
        let late = |_| Status::deadline_exceeded("no Hello came");
        let Some(first) =
            tokio::time::timeout(HELLO_WITHIN, self.messages.message()).await.map_err(late)??
        else {
            return Ok(None);
        };
        let Some(Body::Hello(mut hello)) = first.body else {
            return Err(Status::invalid_argument("the first message must be Hello"));
        };
        if hello.want.len() > MAX_WANTED {
            return Err(too_many());
        }
        let wanted = hello.want.len();
        let have = std::mem::take(&mut hello.have);
        let (workload, instance) = (hello.workload.clone(), hello.instance.clone());
        let version = hello.version.clone();
        let subscription = self.subscribe(hello).await?;
        info!(%workload, %instance, %version, has = have.len(), "proxy connected");
        subscription.progress.send_modify(|progress| progress.proxy_version = version);
        let open = OpenStream::new(&self.service.metrics, workload, instance);
        let session = Session {
            hub: self.service.hub,
            stopping: self.service.stopping,
            messages: self.messages,
            wanted,
            held: Held::new(have),
            stream: subscription.id,
            subscription,
            sent: None,
            ends: self.peer.ends,
            open,
        };
        Ok(Some(session))
    }

    async fn subscribe(&self, hello: Hello) -> Result<Subscription, Status> {
        let peer = self.peer.id.clone();
        let answer = self.service.hub.ask(|answer| Event::Open(Box::new(Open { peer, hello, answer }))).await;
        answer.map_err(stopping)?.map_err(|error| match error {
            OpenError::Malformed => Status::invalid_argument(error.to_string()),
            OpenError::NotYours { .. } => Status::permission_denied(error.to_string()),
            OpenError::UnknownPod { .. } | OpenError::NoConfiguration => {
                Status::unavailable(error.to_string())
            }
        })
    }
}

/// A subscribed stream.
struct Session {
    hub: Hub,
    stopping: CancellationToken,
    messages: Streaming<ConfigRequest>,
    wanted: usize,
    held: Held,
    stream: StreamId,
    subscription: Subscription,
    /// When the outstanding delta was sent.
    sent: Option<Instant>,
    /// When the peer's certificate ends.
    ends: Instant,
    open: OpenStream,
}

impl Session {
    /// Waits until there is a delta to send; none at the end of the stream.
    async fn next_delta(&mut self) -> Result<Option<Delta>, Status> {
        loop {
            let target = self.subscription.target.borrow_and_update().clone();
            if let Some(delta) = target.as_deref().and_then(|target| self.held.next_delta(target)) {
                self.sent = Some(Instant::now());
                self.open.metrics.pushes.inc();
                debug!(
                    workload = self.open.workload,
                    instance = self.open.instance,
                    nonce = delta.nonce,
                    upserts = delta.upserts.len(),
                    removals = delta.removals.len(),
                    "delta sent"
                );
                return Ok(Some(delta));
            }
            self.say_progress(target.as_deref());
            let deadline = self.sent.map_or(self.ends, |sent| self.ends.min(sent + ACK_WITHIN));
            tokio::select! {
                changed = self.subscription.target.changed() => changed.map_err(|_| self.closed())?,
                message = self.messages.message() => match message? {
                    Some(message) => self.take(message).await?,
                    None => return Ok(None),
                },
                () = self.stopping.cancelled() => return Err(stopping(())),
                () = tokio::time::sleep_until(deadline) => return Err(self.overdue()),
            }
        }
    }

    async fn take(&mut self, message: ConfigRequest) -> Result<(), Status> {
        match message.body {
            Some(Body::Ack(ack)) => {
                if self.held.ack(&ack.nonce) {
                    self.answered();
                }
            }
            Some(Body::Nack(nack)) => self.take_nack(&nack),
            Some(Body::Want(want)) => {
                self.wanted = (self.wanted + want.destinations.len()).saturating_sub(want.forget.len());
                if self.wanted > MAX_WANTED {
                    return Err(too_many());
                }
                let (stream, wanted, forget) = (self.stream, want.destinations, want.forget);
                let said = self.hub.say(Event::Want { stream, wanted, forget }).await;
                said.map_err(stopping)?;
            }
            Some(Body::Report(report)) => {
                self.subscription.progress.send_modify(|progress| progress.report = Some(report));
            }
            Some(Body::Hello(_)) => return Err(Status::invalid_argument("Hello came twice")),
            None => debug!("empty message of a newer proxy passed over"),
        }
        Ok(())
    }

    fn take_nack(&mut self, nack: &Nack) {
        if !self.held.nack(&nack.nonce, &nack.errors) {
            return;
        }
        self.answered();
        self.open.metrics.nacks.inc();
        let one = |error: &weft_api::v1::ResourceError| {
            format!("{} {}: {}", error.kind().as_str_name(), error.name, error.message)
        };
        let refusal = nack.errors.iter().map(one).collect::<Vec<_>>().join("; ");
        warn!(
            workload = self.open.workload,
            instance = self.open.instance,
            refusal,
            "proxy refused configuration"
        );
        self.subscription.progress.send_modify(|progress| progress.refusal = refusal);
    }

    fn answered(&mut self) {
        if let Some(sent) = self.sent.take() {
            self.open.metrics.push_seconds.observe(sent.elapsed().as_secs_f64());
        }
    }

    fn say_progress(&self, target: Option<&Target>) {
        let synced = target.is_some_and(|target| self.held.is_synced(target));
        let acked_version = self.held.version();
        let refused = self.held.has_refused();
        self.subscription.progress.send_if_modified(|progress| {
            let changed = progress.synced != synced
                || progress.acked_version != acked_version
                || (!refused && !progress.refusal.is_empty());
            progress.synced = synced;
            progress.target = target.map_or(0, |target| target.number);
            progress.acked_version = acked_version;
            if !refused {
                progress.refusal.clear();
            }
            changed
        });
    }

    /// The operator ends a subscription when it stops, or when the proxy's pod has become another workload's.
    fn closed(&self) -> Status {
        if self.stopping.is_cancelled() {
            stopping(())
        } else {
            Status::aborted("the pod is another workload's now; subscribe anew")
        }
    }

    fn overdue(&self) -> Status {
        if Instant::now() >= self.ends {
            Status::unauthenticated("the client certificate has ended; connect again with a new one")
        } else {
            Status::deadline_exceeded("no ack or nack came")
        }
    }
}

/// Counts a stream while it lives, and says when it ends.
struct OpenStream {
    metrics: Arc<Metrics>,
    workload: String,
    instance: String,
}

impl OpenStream {
    fn new(metrics: &Arc<Metrics>, workload: String, instance: String) -> Self {
        metrics.streams.inc();
        Self { metrics: Arc::clone(metrics), workload, instance }
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.metrics.streams.dec();
        info!(workload = self.workload, instance = self.instance, "proxy disconnected");
    }
}

fn stopping<E>(_: E) -> Status {
    Status::unavailable("the operator is stopping")
}

fn too_many() -> Status {
    Status::resource_exhausted(format!("a proxy may want {MAX_WANTED} destinations at most"))
}
