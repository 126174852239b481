//! What of the world goes into a cluster, and what comes of it: the objects that each resource needs, the words of
//! proxies that this replica does not serve itself. Standalone nothing of it happens.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;
use weft_core::ca::Lifetime;
use weft_core::render;
use weft_core::status::Status;
use weft_core::status::condition::time;
use weft_core::world::{Change, InstanceRef, ObjectKind, ObjectRef};

use super::Reconciler;
use crate::publish::Progress;
use crate::server::replicas::{Forwarded, SessionId};

impl Reconciler {
    /// Says what these resources need in the cluster now.
    pub(super) fn make(&mut self, resources: &BTreeSet<ObjectRef>) {
        let Some(cluster) = &self.outlets.cluster else { return };
        let makes =
            |reference: &&ObjectRef| matches!(reference.kind, ObjectKind::Microservice | ObjectKind::Gateway);
        for reference in resources.iter().filter(makes) {
            let obstacle = match render::of(&self.world, reference, &cluster.template) {
                None => {
                    cluster.desired.put(reference, None);
                    continue;
                }
                Some(Ok(rendered)) => {
                    cluster.desired.put(reference, Some(Arc::new(rendered)));
                    None
                }
                // What was made of its last good form stays.
                Some(Err(obstacle)) => Some(obstacle),
            };
            let known = self.world.obstacle(reference);
            let rendering = known.is_some_and(|known| known.reason == render::INVALID_PARAMETERS);
            if obstacle.is_some() || rendering {
                // Its own status alone is affected, which is written next.
                self.world.apply(Change::Applied { owner: reference.clone(), obstacle });
            }
        }
    }

    /// A status with what the world does not know.
    pub(super) fn complete(&self, status: Option<Status>) -> Option<Status> {
        match (status, &self.authority) {
            (Some(Status::Mesh(mut mesh)), Some(authority)) => {
                mesh.root_expires = Some(time(authority.expires()));
                Some(Status::Mesh(mesh))
            }
            (status, _) => status,
        }
    }

    /// Says that a certificate is about to end: its proxy should have renewed it long before. That it has ended, the
    /// status says.
    pub(super) fn warn_of_end(&self, reference: &ObjectRef, status: Option<&Status>, now: i64) {
        let (Some(cluster), Some(authority)) = (&self.outlets.cluster, &self.authority) else { return };
        let Some(Status::Microservice(status)) = status else { return };
        let Some(end) = &status.certificate_expires else { return };
        let left = end.0.as_second() - now;
        if (1..late(authority.lifetime())).contains(&left) {
            let note = format!(
                "a certificate ends at {} and has not been renewed; look at the log of the proxies and of the operator",
                end.0
            );
            cluster.statuses.warn(reference, "CertificateEnding", note);
        }
    }

    /// Proxies of another replica say something.
    pub(super) fn take_forwarded(&mut self, session: SessionId, proxies: Forwarded) {
        let now = Instant::now();
        let instances = proxies.iter().map(|(proxy, _)| proxy.clone()).collect();
        for (proxy, progress) in proxies {
            self.remote.take(session, &proxy, progress, now);
        }
        self.judge_reports(instances);
    }

    /// What this replica's own proxies say is for the leader too.
    pub(super) fn tell_leader(&self, instances: &[InstanceRef]) {
        let Some(cluster) = &self.outlets.cluster else { return };
        for instance in instances {
            cluster.reports.put(instance, self.publish.progress(instance));
        }
    }

    /// Takes over what these instances say now.
    pub(super) fn judge_reports(&mut self, instances: BTreeSet<InstanceRef>) {
        let report = |instance: InstanceRef| {
            let progress = self.progress(&instance);
            match progress {
                // It has not reported yet, which says nothing of what it said before.
                Some(Progress { report: None, .. }) => None,
                Some(Progress { report, .. }) => Some(Change::Report { instance, report }),
                None => Some(Change::Report { instance, report: None }),
            }
        };
        let changes: Vec<Change> = instances.into_iter().filter_map(report).collect();
        if !changes.is_empty() {
            self.reconcile(changes);
        }
    }

    /// What the proxy of an instance said last, to this replica or to another.
    pub(super) fn progress(&self, instance: &InstanceRef) -> Option<Progress> {
        self.publish.progress(instance).or_else(|| self.remote.progress(instance).cloned())
    }
}

/// Seconds before the end of a certificate from which it is late: half of what is left when it is to be renewed.
fn late(life: Lifetime) -> i64 {
    let length = i64::try_from(life.length.as_secs()).unwrap_or(i64::MAX / 100);
    length * i64::from(100 - life.renew_percent.min(100)) / 200
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_certificate_is_late_long_after_its_renewal_was_due() {
        let life =
            |hours: u64, renew_percent: u8| Lifetime { length: Duration::from_hours(hours), renew_percent };
        // Due with 7 h 12 min left.
        assert_eq!(late(life(24, 70)), 12_960);
        assert_eq!(late(life(1, 90)), 180);
        assert_eq!(late(life(1, 100)), 0);
    }
}
