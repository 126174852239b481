//! What can happen to the operator, in the order in which its one reconciler takes it. Everyone else holds a [`Hub`]
//! and says what happened or asks; nobody but the reconciler touches the world. The channel is bounded, so who says
//! too much waits.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use weft_api::spiffe::SpiffeId;
use weft_api::status::MeshStatus;
use weft_api::v1::{Hello, Keys};
use weft_core::render::Obstacle;
use weft_core::validate::Problem;
use weft_core::world::{Object, ObjectRef, Trust};

use crate::authority::{Authority, AuthorityError};
use crate::publish::{StreamId, Subscription};
use crate::server::replicas::{Forwarded, SessionId};
use crate::source::Loaded;

const PENDING_EVENTS: usize = 256;

/// Something that happened, or a question.
#[derive(Debug)]
pub(crate) enum Event {
    /// The source read its resources.
    Loaded(Loaded),
    /// A key set was fetched, or could not be.
    Keys { name: String, keys: Keys },
    /// The authority of a cluster was opened, or could not be.
    Authority(Result<Arc<Authority>, AuthorityError>),
    /// The roots or the issuer of the mesh changed.
    Trust(Trust),
    /// Someone asks whether all proxies trust a root, by its fingerprint.
    Trusts { root: String, answer: oneshot::Sender<bool> },
    /// What a resource needs was made in the cluster, or could not be.
    Applied { owner: ObjectRef, obstacle: Option<Obstacle> },
    /// What proxies of another replica say.
    Forwarded { session: SessionId, proxies: Forwarded },
    /// Another replica says nothing more.
    ForwardEnded(SessionId),
    /// A proxy wants to subscribe.
    Open(Box<Open>),
    /// A proxy wants more destinations and addresses, and some no longer.
    Want { stream: StreamId, wanted: Vec<String>, forget: Vec<String> },
    /// A new pod with these labels asks whose it is.
    Injection { namespace: String, labels: BTreeMap<String, String>, answer: oneshot::Sender<Home> },
    /// Someone asks what would be wrong or odd about an object; the answer is none where it is another controller's.
    Review { object: Box<Object>, answer: oneshot::Sender<Option<Vec<Problem>>> },
    /// Someone asks for the status of the mesh.
    Status(oneshot::Sender<MeshStatus>),
    /// Someone asks for the whole world.
    World(oneshot::Sender<serde_json::Value>),
}

/// What a new pod comes into.
#[derive(Debug, Default)]
pub(crate) struct Home {
    /// The Microservice that selects it.
    pub(crate) microservice: Option<String>,
    /// The Pod Security standard that its namespace enforces.
    pub(crate) pod_security: Option<String>,
}

/// A proxy's wish to subscribe.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) peer: SpiffeId,
    pub(crate) hello: Hello,
    pub(crate) answer: oneshot::Sender<Result<Subscription, OpenError>>,
}

/// Why a proxy may not subscribe.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The name is not `<namespace>/<name>`, or no instance is named.
    #[error("Hello names no workload and instance; write workload as <namespace>/<name>")]
    Malformed,
    /// The certificate is another workload's, or there is no such workload.
    #[error("{peer} may not have the configuration of {workload}")]
    NotYours { peer: SpiffeId, workload: String },
    /// The API server has not told of the pod, or it is no pod of the mesh.
    #[error("pod {pod} is not known to be in the mesh; it may be soon")]
    UnknownPod { pod: String },
    /// No configuration has been accepted since the operator started.
    #[error("no configuration has been accepted yet; see the operator's log")]
    NoConfiguration,
}

/// The operator is stopping: the reconciler is gone.
#[derive(Debug, thiserror::Error)]
#[error("the operator is stopping")]
pub(crate) struct Stopping;

/// Says and asks things of the reconciler.
#[derive(Clone, Debug)]
pub(crate) struct Hub {
    events: mpsc::Sender<Event>,
}

impl Hub {
    /// A hub and what the reconciler reads.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Event>) {
        let (events, pending) = mpsc::channel(PENDING_EVENTS);
        (Self { events }, pending)
    }

    /// Says what happened.
    pub(crate) async fn say(&self, event: Event) -> Result<(), Stopping> {
        self.events.send(event).await.map_err(|_| Stopping)
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Event,
    ) -> Result<T, Stopping> {
        let (answer, answered) = oneshot::channel();
        self.say(question(answer)).await?;
        answered.await.map_err(|_| Stopping)
    }
}
