//! What to do next for which resource, without requests and without a clock.
//!
//! Fed by what is wanted ([`Plan::want`]), by what the cluster holds of what was made ([`Plan::see`]) and by how each
//! job ended ([`Plan::done`]); [`Plan::start`] gives the jobs that are due. There is one job at a time for a resource,
//! and it always does the whole: what is wanted is applied, what is there beyond that is deleted. A resource whose job
//! fails is tried again later and later; one whose objects somebody else keeps changing is put right more and more
//! seldom, so that two who disagree do not wear out the API server.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weft_core::render::{OwnedKind, Rendered};
use weft_core::world::{Name, ObjectRef};

use super::Wanted;

/// Jobs under way at once.
const AT_ONCE: usize = 8;
/// After the first failure; doubles with each.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The longest wait after a failure: somebody may have mended what was wrong.
const RETRY_AT_MOST: Duration = Duration::from_mins(1);
/// Before what somebody changed is put right the second time within [`CALM`]; doubles with each.
const PUT_RIGHT_AFTER: Duration = Duration::from_millis(250);
/// The longest wait before something is put right.
const PUT_RIGHT_AT_MOST: Duration = Duration::from_secs(30);
/// Without a change for so long, a resource counts as calm again.
const CALM: Duration = Duration::from_mins(2);

/// An object that the operator made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct OwnedRef {
    pub(super) kind: OwnedKind,
    pub(super) name: Name,
}

/// An object with the operator's label, as the cluster holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) uid: String,
    /// Uid of the resource that it belongs to.
    pub(super) owner_uid: String,
    /// Over all that is not status: another one means that somebody changed something.
    pub(super) fingerprint: u64,
}

/// Something to do now.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Job {
    pub(super) owner: ObjectRef,
    pub(super) rendered: Arc<Rendered>,
    /// Made earlier and wanted no more, with their uids.
    pub(super) strays: Vec<(OwnedRef, String)>,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ended {
    /// Everything is as wanted; fingerprints of what was applied.
    Done(Vec<(OwnedRef, u64)>),
    /// Something is in the way; to be tried again.
    Failed,
}

/// What is known and under way.
#[derive(Debug, Default)]
pub(super) struct Plan {
    owners: BTreeMap<ObjectRef, Owner>,
    by_uid: HashMap<String, ObjectRef>,
    seen: HashMap<OwnedRef, Seen>,
    applied: HashMap<OwnedRef, u64>,
}

#[derive(Debug)]
struct Owner {
    rendered: Arc<Rendered>,
    due: Option<Instant>,
    running: bool,
    /// Objects that changed while its job was under way.
    meanwhile: BTreeSet<OwnedRef>,
    failures: u32,
    /// How often it was put right lately, and when last.
    corrections: u32,
    corrected: Option<Instant>,
}

impl Plan {
    /// This is to be made of a resource.
    pub(super) fn want(&mut self, (owner, rendered): Wanted, now: Instant) {
        let Some(rendered) = rendered else {
            // What it made goes with it: that is the garbage collector's.
            if let Some(gone) = self.owners.remove(&owner) {
                self.by_uid.remove(&gone.rendered.uid);
                self.applied.retain(|object, _| !wants(&gone.rendered, &owner, object));
            }
            return;
        };
        self.by_uid.insert(rendered.uid.clone(), owner.clone());
        let before = self.owners.get(&owner);
        let (running, uid) =
            before.map(|owner| (owner.running, owner.rendered.uid.clone())).unwrap_or_default();
        if uid != rendered.uid {
            self.by_uid.remove(&uid);
        }
        self.owners.insert(owner, Owner { running, due: Some(now), ..Owner::new(rendered) });
    }

    /// An object with the operator's label is like this now; none: it is gone.
    pub(super) fn see(&mut self, object: &OwnedRef, seen: Option<Seen>, now: Instant) {
        let gone = seen.is_none();
        let before = match &seen {
            Some(seen) => self.seen.insert(object.clone(), seen.clone()),
            None => self.seen.remove(object),
        };
        // One that lost its owner reference is still whose it was before.
        let whose = seen.into_iter().chain(before).find_map(|seen| self.by_uid.get(&seen.owner_uid));
        let Some(name) = whose else { return };
        let right = self.owners.get(name).is_none_or(|owner| self.is_right(name, owner, object));
        let Some(owner) = self.owners.get_mut(name) else { return };
        if owner.running {
            owner.meanwhile.insert(object.clone());
        } else if !right && (gone || owner.due.is_none()) {
            owner.put_right(now);
        }
    }

    /// These are all objects of a kind with the operator's label.
    pub(super) fn see_all(&mut self, kind: OwnedKind, all: HashMap<Name, Seen>, now: Instant) {
        let known = self.seen.keys().filter(|object| object.kind == kind && !all.contains_key(&object.name));
        let gone: Vec<OwnedRef> = known.cloned().collect();
        for object in gone {
            self.see(&object, None, now);
        }
        for (name, seen) in all {
            self.see(&OwnedRef { kind, name }, Some(seen), now);
        }
    }

    fn is_right(&self, name: &ObjectRef, owner: &Owner, object: &OwnedRef) -> bool {
        match self.seen.get(object) {
            Some(seen) if wants(&owner.rendered, name, object) => {
                self.applied.get(object) == Some(&seen.fingerprint)
            }
            Some(seen) => seen.owner_uid != owner.rendered.uid,
            None => !wants(&owner.rendered, name, object),
        }
    }

    /// Jobs that are due, as many as may run. Each is to be reported by [`Plan::done`].
    pub(super) fn start(&mut self, now: Instant) -> Vec<Job> {
        let running = self.owners.values().filter(|owner| owner.running).count();
        let due = self
            .owners
            .iter_mut()
            .filter(|(_, owner)| !owner.running && owner.due.is_some_and(|due| due <= now));
        let mut jobs = Vec::new();
        for (name, owner) in due.take(AT_ONCE.saturating_sub(running)) {
            (owner.running, owner.due) = (true, None);
            let rendered = Arc::clone(&owner.rendered);
            jobs.push(Job { owner: name.clone(), rendered, strays: Vec::new() });
        }
        for job in &mut jobs {
            job.strays = self.strays(&job.owner, &job.rendered);
        }
        jobs
    }

    /// A job ended.
    pub(super) fn done(&mut self, owner: &ObjectRef, ended: Ended, now: Instant) {
        let Some(entry) = self.owners.get_mut(owner) else { return };
        entry.running = false;
        let Ended::Done(applied) = ended else {
            let wait = RETRY_AFTER.saturating_mul(1 << entry.failures.min(10)).min(RETRY_AT_MOST);
            entry.failures += 1;
            // What is wanted may have changed meanwhile: then it is due already.
            entry.due = entry.due.or(Some(now + wait));
            return;
        };
        entry.failures = 0;
        let meanwhile = std::mem::take(&mut entry.meanwhile);
        let uid = entry.rendered.uid.clone();
        self.seen.retain(|object, seen| {
            seen.owner_uid != uid || applied.iter().any(|(applied, _)| applied == object)
        });
        self.applied.extend(applied);
        let Some(entry) = self.owners.get(owner) else { return };
        let right = meanwhile.iter().all(|object| self.is_right(owner, entry, object));
        if let Some(entry) = self.owners.get_mut(owner)
            && !right
            && entry.due.is_none()
        {
            entry.put_right(now);
        }
    }

    /// When something is due next; none while nothing is, or while as much is under way as may be.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let waiting = self.owners.values().filter(|owner| !owner.running);
        let full = self.owners.values().filter(|owner| owner.running).count() >= AT_ONCE;
        waiting.filter_map(|owner| owner.due).min().filter(|_| !full)
    }

    fn strays(&self, owner: &ObjectRef, rendered: &Rendered) -> Vec<(OwnedRef, String)> {
        let of_it = self.seen.iter().filter(|(_, seen)| seen.owner_uid == rendered.uid);
        let strays = of_it.filter(|(object, _)| !wants(rendered, owner, object));
        let mut strays: Vec<_> = strays.map(|(object, seen)| (object.clone(), seen.uid.clone())).collect();
        // Those that act on others first: no autoscaler is to look for a Deployment that is gone.
        strays.sort_by(|one, other| other.0.cmp(&one.0));
        strays
    }
}

impl Owner {
    fn new(rendered: Arc<Rendered>) -> Self {
        let meanwhile = BTreeSet::new();
        Self { rendered, due: None, running: false, meanwhile, failures: 0, corrections: 0, corrected: None }
    }

    fn put_right(&mut self, now: Instant) {
        if self.corrected.is_none_or(|last| now > last + CALM) {
            self.corrections = 0;
        }
        let wait = match self.corrections {
            0 => Duration::ZERO,
            n => PUT_RIGHT_AFTER.saturating_mul(1 << n.min(10)).min(PUT_RIGHT_AT_MOST),
        };
        self.corrections += 1;
        self.corrected = Some(now);
        self.due = Some(now + wait);
    }
}

/// Everything made of a resource is in its namespace.
fn wants(rendered: &Rendered, owner: &ObjectRef, object: &OwnedRef) -> bool {
    object.name.namespace == owner.name.namespace
        && rendered.objects.iter().any(|wanted| wanted.kind == object.kind && wanted.name == object.name.name)
}

#[cfg(test)]
mod tests;
