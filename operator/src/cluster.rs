//! What the operator makes and says in a cluster. The reconciler puts what is wanted into [`Desired`] and [`Statuses`]
//! and waits for nothing; the leader's tasks here carry it out. Other replicas keep both up to date and write nothing,
//! so that each can go on where another ended.
//!
//! `plan` decides what is due, `apply` carries out one job, `watch` sees what somebody changed, `statuses` decides which
//! status is written, `news` and `events` say what users must know.

mod apply;
mod due;
mod events;
mod kinds;
mod news;
mod plan;
mod statuses;
mod watch;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tracing::{debug, error, warn};
use weft_core::inject::Template;
use weft_core::render::{Obstacle, OwnedKind, Rendered};
use weft_core::world::ObjectRef;

use self::apply::{ApplyError, carry_out};
use self::events::Recorder;
use self::plan::{Ended, Job, Plan};
pub(crate) use self::statuses::Statuses;
use self::statuses::Write;
use self::watch::Sight;
use self::write::write;
use crate::event::{Event, Hub};
use crate::latest::{Changed, Latest};
use crate::leader::Leadership;
use crate::replicas::Reports;

const PENDING_SIGHTS: usize = 256;
/// From the beginning of a term until other replicas have said what their proxies say.
const HEARD_WITHIN: Duration = Duration::from_secs(5);

/// What is to be in the cluster: for every Microservice and Gateway the objects made of it.
pub(crate) type Desired = Latest<ObjectRef, Arc<Rendered>>;
/// A resource and what is to be made of it; none: it is gone, and what it made goes with it.
pub(crate) type Wanted = Changed<ObjectRef, Arc<Rendered>>;

/// What the reconciler decides for a cluster, and needs for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outlet {
    pub(crate) desired: Desired,
    pub(crate) statuses: Statuses,
    pub(crate) reports: Reports,
    /// What every proxy has.
    pub(crate) template: Template,
}

/// Writes to a cluster while this replica leads.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) leadership: Leadership,
    pub(crate) outlet: Outlet,
    pub(crate) hub: Hub,
    /// Name of this replica's pod.
    pub(crate) instance: String,
}

impl Cluster {
    /// Writes in every term of this replica; ends with the operator.
    pub(crate) async fn run(self) {
        let mut leadership = self.leadership.clone();
        // Boxed: most replicas never do it.
        let work = || {
            Box::pin(async {
                tokio::join!(self.keep_objects(), self.keep_statuses());
            })
        };
        leadership.while_leading(work).await;
    }

    /// Makes and deletes objects, and puts right what somebody changed.
    async fn keep_objects(&self) {
        let mut plan = Plan::default();
        let (say, mut sights) = mpsc::channel(PENDING_SIGHTS);
        let mut watches = JoinSet::new();
        for kind in OwnedKind::ALL {
            watches.spawn(watch::watch(self.client.clone(), kind, say.clone()));
        }
        self.outlet.desired.begin();
        let mut jobs = JoinSet::new();
        let mut told = BTreeMap::new();
        loop {
            for job in plan.start(Instant::now()) {
                jobs.spawn(carry_out(self.client.clone(), job));
            }
            let wake = plan.wake_at();
            tokio::select! {
                changes = self.outlet.desired.next(usize::MAX) => {
                    for wanted in changes {
                        told.remove(&wanted.0);
                        plan.want(wanted, Instant::now());
                    }
                }
                Some(sight) = sights.recv() => see(&mut plan, sight),
                Some(ended) = jobs.join_next() => self.take(&mut plan, &mut told, ended).await,
                () = until(wake) => {}
            }
        }
    }

    async fn take(&self, plan: &mut Plan, told: &mut Told, ended: Result<(Job, apply::Outcome), JoinError>) {
        let (job, outcome) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                error!(error = &error as &dyn std::error::Error, "a job ended badly");
                return;
            }
        };
        let obstacle = match &outcome {
            Ok(_) => Some(None),
            Err(ApplyError::Obstacle(obstacle)) => {
                warn!(owner = %job.owner, reason = obstacle.reason, why = obstacle.message, "not applied");
                Some(Some(obstacle.clone()))
            }
            Err(ApplyError::Leaving(what)) => {
                debug!(owner = %job.owner, what, "waits until it is gone");
                None
            }
            Err(error) => {
                warn!(owner = %job.owner, error = error as &dyn std::error::Error, "not applied; tried again");
                None
            }
        };
        plan.done(&job.owner, outcome.map_or(Ended::Failed, Ended::Done), Instant::now());
        let Some(obstacle) = obstacle else { return };
        if told.get(&job.owner) == Some(&obstacle) {
            return;
        }
        told.insert(job.owner.clone(), obstacle.clone());
        // At the end of the operator nobody listens.
        drop(self.hub.say(Event::Applied { owner: job.owner, obstacle }).await);
    }

    /// Writes statuses, and says what they mean for users.
    async fn keep_statuses(&self) {
        // Proxies of other replicas are heard of first, or they would be said to be missing.
        tokio::time::sleep(HEARD_WITHIN).await;
        self.outlet.statuses.begin();
        let mut recorder = Recorder::new(self.client.clone(), self.instance.clone());
        let mut writes = JoinSet::new();
        loop {
            for due in self.outlet.statuses.start(Instant::now()) {
                writes.spawn(write(self.client.clone(), due));
            }
            for (object, uid, news) in self.outlet.statuses.take_warnings() {
                recorder.say(&object, &uid, &news, Instant::now()).await;
            }
            let wake = self.outlet.statuses.wake_at();
            tokio::select! {
                () = self.outlet.statuses.changed() => {}
                Some(ended) = writes.join_next() => self.wrote(&mut recorder, ended).await,
                () = until(wake) => {}
            }
        }
    }

    async fn wrote(&self, recorder: &mut Recorder, ended: Result<(Write, write::Outcome), JoinError>) {
        let (due, outcome) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                error!(error = &error as &dyn std::error::Error, "a status write ended badly");
                return;
            }
        };
        if let Err(error) = &outcome {
            warn!(object = %due.object, error = error as &dyn std::error::Error, "status not written; tried again");
        }
        self.outlet.statuses.done(&due, outcome.is_ok(), Instant::now());
        if outcome.is_ok() {
            for news in news::of(due.held.as_ref(), &due.wanted) {
                recorder.say(&due.object, &due.uid, &news, Instant::now()).await;
            }
        }
    }
}

/// How the job of each resource ended last, as far as it was said.
type Told = BTreeMap<ObjectRef, Option<Obstacle>>;

fn see(plan: &mut Plan, sight: Sight) {
    match sight {
        Sight::One(object, seen) => plan.see(&object, seen, Instant::now()),
        Sight::All(kind, all) => plan.see_all(kind, all, Instant::now()),
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
