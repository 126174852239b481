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
use super::due::Due;

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
#[derive(Debug)]
pub(super) struct Plan {
    owners: BTreeMap<ObjectRef, Owner>,
    due: Due<ObjectRef>,
    by_uid: HashMap<String, ObjectRef>,
    seen: Sights,
    applied: HashMap<OwnedRef, u64>,
}

/// What the cluster holds of what was made.
#[derive(Debug, Default)]
struct Sights {
    all: HashMap<OwnedRef, Seen>,
    of_owner: HashMap<String, BTreeSet<OwnedRef>>,
}

#[derive(Debug)]
struct Owner {
    rendered: Arc<Rendered>,
    /// Objects that changed while its job was under way.
    meanwhile: BTreeSet<OwnedRef>,
    failures: u32,
    /// How often it was put right lately, and when last.
    corrections: u32,
    corrected: Option<Instant>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            owners: BTreeMap::new(),
            due: Due::new(AT_ONCE),
            by_uid: HashMap::new(),
            seen: Sights::default(),
            applied: HashMap::new(),
        }
    }
}

impl Plan {
    /// This is to be made of a resource.
    pub(super) fn want(&mut self, (owner, rendered): Wanted, now: Instant) {
        let Some(rendered) = rendered else {
            return self.forget(&owner);
        };
        self.by_uid.insert(rendered.uid.clone(), owner.clone());
        self.due.set(&owner, Some(now));
        let uid = rendered.uid.clone();
        let before = self.owners.insert(owner, Owner::new(rendered));
        if let Some(before) = before.filter(|before| before.rendered.uid != uid) {
            self.by_uid.remove(&before.rendered.uid);
        }
    }

    /// What it made goes with it: that is the garbage collector's.
    fn forget(&mut self, owner: &ObjectRef) {
        let Some(gone) = self.owners.remove(owner) else { return };
        self.by_uid.remove(&gone.rendered.uid);
        self.due.unset(owner);
        for object in made(&gone.rendered, owner) {
            self.applied.remove(&object);
        }
    }

    /// An object with the operator's label is like this now; none: it is gone.
    pub(super) fn see(&mut self, object: &OwnedRef, seen: Option<Seen>, now: Instant) {
        let gone = seen.is_none();
        let before = self.seen.set(object, seen.clone());
        // One that lost its owner reference is still whose it was before.
        let whose = seen.into_iter().chain(before).find_map(|seen| self.by_uid.get(&seen.owner_uid));
        let Some(name) = whose else { return };
        let right = self.owners.get(name).is_none_or(|owner| self.is_right(name, owner, object));
        let Some(owner) = self.owners.get_mut(name) else { return };
        if self.due.is_running(name) {
            owner.meanwhile.insert(object.clone());
        } else if !right && (gone || !self.due.contains(name)) {
            self.due.set(name, Some(owner.put_right(now)));
        }
    }

    /// These are all objects of a kind with the operator's label.
    pub(super) fn see_all(&mut self, kind: OwnedKind, all: HashMap<Name, Seen>, now: Instant) {
        let known =
            self.seen.all.keys().filter(|object| object.kind == kind && !all.contains_key(&object.name));
        let gone: Vec<OwnedRef> = known.cloned().collect();
        for object in gone {
            self.see(&object, None, now);
        }
        for (name, seen) in all {
            self.see(&OwnedRef { kind, name }, Some(seen), now);
        }
    }

    fn is_right(&self, name: &ObjectRef, owner: &Owner, object: &OwnedRef) -> bool {
        match self.seen.all.get(object) {
            Some(seen) if wants(&owner.rendered, name, object) => {
                self.applied.get(object) == Some(&seen.fingerprint)
            }
            Some(seen) => seen.owner_uid != owner.rendered.uid,
            None => !wants(&owner.rendered, name, object),
        }
    }

    /// Jobs that are due, as many as may run. Each is to be reported by [`Plan::done`].
    pub(super) fn start(&mut self, now: Instant) -> Vec<Job> {
        let due = self.due.start(now);
        let job = |name: ObjectRef| {
            let rendered = Arc::clone(&self.owners.get(&name)?.rendered);
            Some(Job { strays: self.strays(&name, &rendered), owner: name, rendered })
        };
        due.into_iter().filter_map(job).collect()
    }

    /// A job ended.
    pub(super) fn done(&mut self, owner: &ObjectRef, ended: Ended, now: Instant) {
        self.due.ended(owner);
        // What is wanted may have changed meanwhile: then it is due already.
        let again = self.due.contains(owner);
        let Some(entry) = self.owners.get_mut(owner) else { return };
        let Ended::Done(applied) = ended else {
            let wait = RETRY_AFTER.saturating_mul(1 << entry.failures.min(10)).min(RETRY_AT_MOST);
            entry.failures += 1;
            if !again {
                self.due.set(owner, Some(now + wait));
            }
            return;
        };
        entry.failures = 0;
        let meanwhile = std::mem::take(&mut entry.meanwhile);
        self.seen.keep(&entry.rendered.uid, &applied);
        self.applied.extend(applied);
        let Some(entry) = self.owners.get(owner) else { return };
        let right = meanwhile.iter().all(|object| self.is_right(owner, entry, object));
        if let Some(entry) = self.owners.get_mut(owner)
            && !right
            && !again
        {
            self.due.set(owner, Some(entry.put_right(now)));
        }
    }

    /// When something is due next; none while nothing is, or while as much is under way as may be.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.due.wake_at()
    }

    fn strays(&self, owner: &ObjectRef, rendered: &Rendered) -> Vec<(OwnedRef, String)> {
        let strays = self.seen.of(&rendered.uid).filter(|(object, _)| !wants(rendered, owner, object));
        let mut strays: Vec<_> = strays.map(|(object, seen)| (object.clone(), seen.uid.clone())).collect();
        // Those that act on others first: no autoscaler is to look for a Deployment that is gone.
        strays.sort_by(|one, other| other.0.cmp(&one.0));
        strays
    }
}

impl Sights {
    /// Takes over that an object is like this, or gone. Returns how it was before.
    fn set(&mut self, object: &OwnedRef, seen: Option<Seen>) -> Option<Seen> {
        if let Some(seen) = &seen {
            self.of_owner.entry(seen.owner_uid.clone()).or_default().insert(object.clone());
        }
        let owner = seen.as_ref().map(|seen| seen.owner_uid.clone());
        let before = match seen {
            Some(seen) => self.all.insert(object.clone(), seen),
            None => self.all.remove(object),
        };
        if let Some(before) = before.as_ref().filter(|before| owner.as_ref() != Some(&before.owner_uid))
            && let Some(objects) = self.of_owner.get_mut(&before.owner_uid)
        {
            objects.remove(object);
            if objects.is_empty() {
                self.of_owner.remove(&before.owner_uid);
            }
        }
        before
    }

    /// What belongs to a resource.
    fn of(&self, uid: &str) -> impl Iterator<Item = (&OwnedRef, &Seen)> {
        let objects = self.of_owner.get(uid).into_iter().flatten();
        objects.filter_map(|object| Some((object, self.all.get(object)?)))
    }

    /// Of what belongs to a resource only this is left.
    fn keep(&mut self, uid: &str, left: &[(OwnedRef, u64)]) {
        let is_left = |object: &OwnedRef| left.iter().any(|(kept, _)| kept == object);
        let gone: Vec<OwnedRef> =
            self.of(uid).map(|(object, _)| object).filter(|object| !is_left(object)).cloned().collect();
        for object in gone {
            self.set(&object, None);
        }
    }
}

impl Owner {
    fn new(rendered: Arc<Rendered>) -> Self {
        let meanwhile = BTreeSet::new();
        Self { rendered, meanwhile, failures: 0, corrections: 0, corrected: None }
    }

    /// When it is to be put right.
    fn put_right(&mut self, now: Instant) -> Instant {
        if self.corrected.is_none_or(|last| now > last + CALM) {
            self.corrections = 0;
        }
        let wait = match self.corrections {
            0 => Duration::ZERO,
            n => PUT_RIGHT_AFTER.saturating_mul(1 << n.min(10)).min(PUT_RIGHT_AT_MOST),
        };
        self.corrections += 1;
        self.corrected = Some(now);
        now + wait
    }
}

/// What is made of a resource.
fn made<'a>(rendered: &'a Rendered, owner: &'a ObjectRef) -> impl Iterator<Item = OwnedRef> + 'a {
    let name = |wanted: &str| Name::new(&owner.name.namespace, wanted);
    rendered.objects.iter().map(move |wanted| OwnedRef { kind: wanted.kind, name: name(&wanted.name) })
}

/// Everything made of a resource is in its namespace.
fn wants(rendered: &Rendered, owner: &ObjectRef, object: &OwnedRef) -> bool {
    object.name.namespace == owner.name.namespace
        && rendered.objects.iter().any(|wanted| wanted.kind == object.kind && wanted.name == object.name.name)
}

#[cfg(test)]
mod tests;
