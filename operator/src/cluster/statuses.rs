//! Statuses on their way into the objects. The reconciler puts the newest in and says what each object holds; the leader
//! writes where the two differ, the latest only, no object more often than every [`BETWEEN_WRITES`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use weft_core::status::Status;
use weft_core::world::ObjectRef;
use weft_crds::gateway_class::CONTROLLER;
use weft_crds::gateway_meta::{RouteParentStatus, RouteStatus};

use super::due::Due;
use super::news::News;

/// Writes under way at once.
const AT_ONCE: usize = 4;
/// Between two writes of one object's status.
const BETWEEN_WRITES: Duration = Duration::from_secs(1);
/// After a write that failed; doubles with each.
const RETRY_AFTER: Duration = Duration::from_secs(2);
const RETRY_AT_MOST: Duration = Duration::from_mins(1);

/// All statuses, shared by the one who judges and the one who writes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statuses(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    all: BTreeMap<ObjectRef, Entry>,
    /// Where what is wanted differs from what the object holds, from when on it may be written.
    due: Due<ObjectRef>,
    /// What users must know though no status changes, the latest of each object.
    warnings: BTreeMap<ObjectRef, News>,
}

impl Default for State {
    fn default() -> Self {
        Self { all: BTreeMap::new(), due: Due::new(AT_ONCE), warnings: BTreeMap::new() }
    }
}

#[derive(Debug, Default)]
struct Entry {
    uid: String,
    held: Option<Status>,
    wanted: Option<Status>,
    failures: u32,
    not_before: Option<Instant>,
}

/// A status to write, and what it replaces.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Write {
    pub(super) object: ObjectRef,
    pub(super) uid: String,
    pub(super) held: Option<Status>,
    pub(super) wanted: Status,
}

impl Statuses {
    /// An object holds this status.
    pub(crate) fn hold(&self, object: &ObjectRef, uid: &str, held: Option<Status>) {
        self.change(object, |entry| {
            if !entry.uid.is_empty() && entry.uid != uid {
                *entry = Entry::default();
            }
            uid.clone_into(&mut entry.uid);
            entry.held = held;
        });
    }

    /// An object is to have this status; none: it is gone.
    pub(crate) fn put(&self, object: &ObjectRef, wanted: Option<&Status>) {
        if let Some(wanted) = wanted {
            self.change(object, |entry| entry.wanted = Some(wanted.clone()));
        } else {
            let mut state = self.state();
            state.all.remove(object);
            state.due.unset(object);
        }
    }

    /// Something that users must know of an object though its status does not change.
    pub(crate) fn warn(&self, object: &ObjectRef, reason: &str, note: String) {
        self.state().warnings.insert(object.clone(), News::warning(reason, note));
        self.0.changed.notify_one();
    }

    /// Warnings since the last call, with the uids of their objects.
    pub(super) fn take_warnings(&self) -> Vec<(ObjectRef, String, News)> {
        let mut state = self.state();
        let warnings = std::mem::take(&mut state.warnings);
        let uid =
            |object: &ObjectRef| state.all.get(object).map(|entry| entry.uid.clone()).unwrap_or_default();
        warnings.into_iter().map(|(object, news)| (object.clone(), uid(&object), news)).collect()
    }

    /// Waits until there may be something new to write or say.
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// What is to be written now. Each is to be reported by [`Statuses::done`].
    pub(super) fn start(&self, now: Instant) -> Vec<Write> {
        let mut state = self.state();
        let due = state.due.start(now);
        let writes = due.into_iter().filter_map(|object| {
            let Entry { uid, held, wanted, .. } = state.all.get(&object)?;
            Some(Write { uid: uid.clone(), held: held.clone(), wanted: wanted.clone()?, object })
        });
        writes.collect()
    }

    /// A write ended: it is in the object, or it failed.
    pub(super) fn done(&self, write: &Write, written: bool, now: Instant) {
        self.state().due.ended(&write.object);
        self.change(&write.object, |entry| {
            if written {
                entry.failures = 0;
                entry.not_before = Some(now + BETWEEN_WRITES);
                entry.held = Some(write.wanted.clone());
            } else {
                let wait = RETRY_AFTER.saturating_mul(1 << entry.failures.min(10)).min(RETRY_AT_MOST);
                entry.failures += 1;
                entry.not_before = Some(now + wait);
            }
        });
    }

    /// A leader begins: what one before it had under way is not known.
    pub(super) fn begin(&self) {
        let mut state = self.state();
        state.warnings.clear();
        state.due.begin();
        for entry in state.all.values_mut() {
            (entry.failures, entry.not_before) = (0, None);
        }
    }

    /// When something is due next.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.state().due.wake_at()
    }

    fn change(&self, object: &ObjectRef, change: impl FnOnce(&mut Entry)) {
        let mut state = self.state();
        let State { all, due, .. } = &mut *state;
        let entry = all.entry(object.clone()).or_default();
        change(entry);
        let differs = entry.wanted.as_ref().is_some_and(|wanted| !same(entry.held.as_ref(), wanted));
        if differs {
            due.set(object, entry.not_before);
            drop(state);
            self.0.changed.notify_one();
        } else {
            due.unset(object);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether nothing needs to be written. Of a route only what we say counts: the rest is other controllers'.
fn same(held: Option<&Status>, wanted: &Status) -> bool {
    match (held, wanted) {
        (Some(Status::Route(held)), Status::Route(wanted)) => {
            let (held, wanted) = (our_parents(held), our_parents(wanted));
            held.len() == wanted.len() && wanted.iter().all(|parent| held.contains(parent))
        }
        (None, Status::Route(wanted)) => our_parents(wanted).is_empty(),
        (held, wanted) => held == Some(wanted),
    }
}

/// What we say of a route.
pub(super) fn our_parents(status: &RouteStatus) -> Vec<&RouteParentStatus> {
    status.parents.iter().filter(|parent| parent.controller_name == CONTROLLER).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_core::world::{Name, ObjectKind};
    use weft_crds::MicroserviceStatus;
    use weft_crds::gateway_meta::ParentReference;

    fn order() -> ObjectRef {
        ObjectRef::new(ObjectKind::Microservice, Name::new("shop", "order"))
    }

    fn status(replicas: i32) -> Status {
        Status::Microservice(MicroserviceStatus { replicas: Some(replicas), ..MicroserviceStatus::default() })
    }

    #[test]
    fn only_what_differs_is_written_and_only_the_latest() {
        let now = Instant::now();
        let statuses = Statuses::default();
        statuses.hold(&order(), "u1", Some(status(1)));
        statuses.put(&order(), Some(&status(1)));
        assert!(statuses.start(now).is_empty());
        statuses.put(&order(), Some(&status(2)));
        statuses.put(&order(), Some(&status(3)));
        let writes = statuses.start(now);
        let wanted: Vec<&Status> = writes.iter().map(|write| &write.wanted).collect();
        assert_eq!((wanted, writes[0].held.clone()), (vec![&status(3)], Some(status(1))));
        assert!(statuses.start(now).is_empty(), "it is under way");
        statuses.done(&writes[0], true, now);
        assert!(statuses.start(now + BETWEEN_WRITES).is_empty());
    }

    #[test]
    fn an_object_is_not_written_too_often() {
        let now = Instant::now();
        let statuses = Statuses::default();
        statuses.put(&order(), Some(&status(1)));
        let writes = statuses.start(now);
        statuses.done(&writes[0], true, now);
        statuses.put(&order(), Some(&status(2)));
        assert!(statuses.start(now).is_empty());
        assert_eq!(statuses.wake_at(), Some(now + BETWEEN_WRITES));
        assert_eq!(statuses.start(now + BETWEEN_WRITES).len(), 1);
    }

    #[test]
    fn what_somebody_else_wrote_is_put_right_and_a_failure_tried_again() {
        let now = Instant::now();
        let statuses = Statuses::default();
        statuses.hold(&order(), "u1", Some(status(1)));
        statuses.put(&order(), Some(&status(1)));
        statuses.hold(&order(), "u1", Some(status(9)));
        let writes = statuses.start(now);
        statuses.done(&writes[0], false, now);
        assert!(statuses.start(now).is_empty());
        assert_eq!(statuses.start(now + RETRY_AFTER).len(), 1);
        statuses.put(&order(), None);
        assert!(statuses.start(now + RETRY_AT_MOST).is_empty(), "the object is gone");
    }

    #[test]
    fn a_warning_is_taken_once_and_only_the_latest() {
        let statuses = Statuses::default();
        statuses.hold(&order(), "u1", None);
        statuses.warn(&order(), "CertificateEnding", "1".into());
        statuses.warn(&order(), "CertificateEnding", "2".into());
        let warnings = statuses.take_warnings();
        let said: Vec<_> = warnings.iter().map(|(_, uid, news)| (uid.as_str(), news.note.as_str())).collect();
        assert_eq!((said, statuses.take_warnings().len()), (vec![("u1", "2")], 0));
    }

    #[test]
    fn parents_of_other_controllers_do_not_count() {
        let parent = |controller: &str, name: &str| RouteParentStatus {
            controller_name: controller.into(),
            parent_ref: ParentReference { name: name.into(), ..ParentReference::default() },
            conditions: vec![],
        };
        let route = |parents: &[(&str, &str)]| {
            let parents = parents.iter().map(|(controller, name)| parent(controller, name)).collect();
            Status::Route(RouteStatus { parents })
        };
        let ours = route(&[(CONTROLLER, "a")]);
        assert!(same(Some(&route(&[("other", "b"), (CONTROLLER, "a")])), &ours));
        assert!(!same(Some(&route(&[("other", "b")])), &ours));
        assert!(!same(Some(&ours), &route(&[(CONTROLLER, "a"), (CONTROLLER, "c")])));
        assert!(same(None, &route(&[])), "nothing to say of a route that is not ours");
    }
}
