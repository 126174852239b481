//! `Replicas.Forward`: what the proxies of another replica say. Only the operator itself may say it: whoever else could
//! make statuses lie. The reconciler keeps it as it keeps what this replica's own proxies say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::info;
use weft_api::names::{OPERATOR_ACCOUNT, SYSTEM_NAMESPACE};
use weft_api::v1::replicas_server::Replicas;
use weft_api::v1::{ForwardRequest, ForwardResponse, ProxyName, ProxyReport};
use weft_core::world::InstanceRef;

use super::Peer;
use crate::event::{Event, Hub};
use crate::publish::Progress;

/// Number of a stream, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SessionId(pub(crate) u64);

/// What another replica's proxies say; none: the stream of that one has ended.
pub(crate) type Forwarded = Vec<(InstanceRef, Option<Progress>)>;

/// The service for other replicas.
#[derive(Clone, Debug)]
pub(crate) struct ReplicasService {
    hub: Hub,
    stopping: CancellationToken,
    sessions: Arc<AtomicU64>,
}

#[tonic::async_trait]
impl Replicas for ReplicasService {
    async fn forward(
        &self,
        request: Request<Streaming<ForwardRequest>>,
    ) -> Result<Response<ForwardResponse>, Status> {
        let peer = request.extensions().get::<Option<Peer>>().cloned().flatten();
        let is_operator =
            |peer: &Peer| (peer.id.namespace(), peer.id.account()) == (SYSTEM_NAMESPACE, OPERATOR_ACCOUNT);
        let Some(peer) = peer.filter(is_operator) else {
            return Err(Status::permission_denied("only the operator's own replicas may say this"));
        };
        let session = SessionId(self.sessions.fetch_add(1, Ordering::Relaxed));
        let heard = self.hear(session, &peer, request.into_inner()).await;
        // At the end of the operator nobody listens.
        drop(self.hub.say(Event::ForwardEnded(session)).await);
        heard.map(|()| Response::new(ForwardResponse {}))
    }
}

impl ReplicasService {
    pub(crate) fn new(hub: Hub, stopping: CancellationToken) -> Self {
        Self { hub, stopping, sessions: Arc::default() }
    }

    async fn hear(
        &self,
        session: SessionId,
        peer: &Peer,
        mut messages: Streaming<ForwardRequest>,
    ) -> Result<(), Status> {
        let mut known = false;
        loop {
            let message = tokio::select! {
                message = messages.message() => message?,
                () = self.stopping.cancelled() => return Err(Status::unavailable("the operator is stopping")),
                () = tokio::time::sleep_until(peer.ends) => {
                    return Err(Status::unauthenticated("the certificate has ended; connect again"));
                }
            };
            let Some(message) = message else { return Ok(()) };
            if !known {
                info!(replica = message.replica, proxies = message.proxies.len(), "another replica reports");
                known = true;
            }
            let proxies = read(message);
            let said = self.hub.say(Event::Forwarded { session, proxies }).await;
            said.map_err(|_| Status::unavailable("the operator is stopping"))?;
        }
    }
}

fn read(message: ForwardRequest) -> Forwarded {
    let gone = message.gone.iter().filter_map(|proxy| Some((instance(proxy)?, None)));
    let gone: Forwarded = gone.collect();
    let said = message.proxies.into_iter().filter_map(|report| {
        let proxy = instance(report.proxy.as_ref()?)?;
        Some((proxy, Some(progress(report))))
    });
    said.chain(gone).collect()
}

fn instance(proxy: &ProxyName) -> Option<InstanceRef> {
    Some(InstanceRef::new(proxy.workload.parse().ok()?, &proxy.instance))
}

fn progress(report: ProxyReport) -> Progress {
    Progress {
        proxy_version: report.version,
        synced: report.synced,
        target: 0,
        acked_version: report.acked_version,
        refusal: report.refusal,
        report: report.report,
    }
}
