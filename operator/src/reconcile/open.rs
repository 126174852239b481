//! Who may subscribe, and to what. Standalone a proxy names its workload, and its certificate must be of that workload's
//! account. In a cluster its pod's labels say which workload it is, and its certificate must be of that pod's account: a
//! pod that is not known yet waits a moment, and one whose workload changes has its stream closed, so that it asks anew.

use std::time::Duration;

use tokio::time::Instant;
use tracing::info;
use weft_api::spiffe::SpiffeId;
use weft_api::v1::Hello;
use weft_core::world::{Affected, InstanceRef, Name};

use super::Reconciler;
use crate::event::{Open, OpenError};
use crate::publish::Subscription;

/// How long a pod may take from the start of its proxy until the API server tells of it.
const KNOWN_WITHIN: Duration = Duration::from_secs(10);
/// Most pods that wait to be known.
const MAX_WAITING: usize = 1024;

/// A proxy whose pod is not known yet.
pub(super) struct Waiting {
    open: Open,
    until: Instant,
}

impl Reconciler {
    /// Answers a proxy that wants to subscribe.
    pub(super) fn open(&mut self, open: Open) {
        if self.must_wait(&open) && self.waiting.len() < MAX_WAITING {
            self.waiting.push(Waiting { open, until: Instant::now() + KNOWN_WITHIN });
            return;
        }
        self.answer(open);
        self.fill();
    }

    /// Answers those whose pods are known by now, and those who have waited long enough.
    pub(super) fn open_waiting(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut due = Vec::new();
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.open.answer.is_closed() {
                continue;
            }
            if waiting.until > now && self.must_wait(&waiting.open) {
                self.waiting.push(waiting);
            } else {
                due.push(waiting.open);
            }
        }
        if !due.is_empty() {
            for open in due {
                self.answer(open);
            }
            self.fill();
        }
    }

    /// Closes the streams of pods that are another workload's now.
    pub(super) fn close_moved(&mut self, affected: &Affected) {
        if !self.world.is_in_cluster() {
            return;
        }
        let served = |workload: &Name| self.publish.served(workload);
        for instance in affected.workloads.iter().flat_map(served).collect::<Vec<_>>() {
            let workload = &instance.workload;
            let pod = Name::new(&workload.namespace, &instance.instance);
            if let Some(home) = self.world.home(&pod).filter(|home| *home != workload) {
                info!(%pod, from = %workload, to = %home, "the pod is another workload's now");
                self.publish.close(&instance);
            }
        }
    }

    fn must_wait(&self, open: &Open) -> bool {
        self.world.is_in_cluster()
            && self.outlets.in_force.is_none()
            && self.world.home(&pod(&open.peer, &open.hello)).is_none()
    }

    fn answer(&mut self, open: Open) {
        let Open { peer, hello, answer } = open;
        let subscription = self.subscribe(&peer, hello);
        // A stream that has ended meanwhile is swept with the next reports.
        drop(answer.send(subscription));
    }

    fn subscribe(&mut self, peer: &SpiffeId, hello: Hello) -> Result<Subscription, OpenError> {
        if self.outlets.in_force.is_some() {
            return Err(OpenError::NoConfiguration);
        }
        let named: Name = hello.workload.parse().map_err(|_| OpenError::Malformed)?;
        if hello.instance.is_empty() {
            return Err(OpenError::Malformed);
        }
        let instance = if self.world.is_in_cluster() {
            let home = self.world.home(&pod(peer, &hello)).cloned();
            let home = home.ok_or_else(|| OpenError::UnknownPod { pod: pod(peer, &hello).to_string() })?;
            InstanceRef::new(home, &hello.instance)
        } else {
            InstanceRef::new(named, &hello.instance)
        };
        let owner = Name::new(peer.namespace(), peer.account());
        if self.world.instance_account(&instance) != Some(owner) {
            return Err(OpenError::NotYours { peer: peer.clone(), workload: instance.workload.to_string() });
        }
        Ok(self.publish.open(instance, hello.want.into_iter().collect()))
    }
}

/// The pod of a proxy: instances are called like their pods.
fn pod(peer: &SpiffeId, hello: &Hello) -> Name {
    Name::new(peer.namespace(), &hello.instance)
}
