//! What is to be in the cluster: for every Microservice and Gateway the objects made of it. The reconciler puts the
//! newest in, the leader takes out what changed; in between a resource that changes twice is seen once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use weft_core::render::Rendered;
use weft_core::world::ObjectRef;

/// Everything that is to be there, shared by the one who says it and the one who does it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Desired(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    all: BTreeMap<ObjectRef, Arc<Rendered>>,
    changed: BTreeSet<ObjectRef>,
}

/// A resource and what is to be made of it; none: it is gone, and what it made goes with it.
pub(crate) type Wanted = (ObjectRef, Option<Arc<Rendered>>);

impl Desired {
    /// Sets what is to be made of a resource.
    pub(crate) fn put(&self, owner: &ObjectRef, rendered: Option<Rendered>) {
        let mut state = self.state();
        if state.all.get(owner).map(AsRef::as_ref) == rendered.as_ref() {
            return;
        }
        match rendered {
            Some(rendered) => state.all.insert(owner.clone(), Arc::new(rendered)),
            None => state.all.remove(owner),
        };
        state.changed.insert(owner.clone());
        drop(state);
        self.0.changed.notify_one();
    }

    /// Everything, for a leader that begins.
    pub(super) fn all(&self) -> Vec<Wanted> {
        let mut state = self.state();
        state.changed.clear();
        state.all.iter().map(|(owner, rendered)| (owner.clone(), Some(Arc::clone(rendered)))).collect()
    }

    /// What changed since the last call; waits until there is something.
    pub(super) async fn changes(&self) -> Vec<Wanted> {
        loop {
            let changed = self.take_changes();
            if !changed.is_empty() {
                return changed;
            }
            self.0.changed.notified().await;
        }
    }

    fn take_changes(&self) -> Vec<Wanted> {
        let mut state = self.state();
        let changed = std::mem::take(&mut state.changed);
        let wanted = changed.into_iter().map(|owner| {
            let rendered = state.all.get(&owner).cloned();
            (owner, rendered)
        });
        wanted.collect()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_core::world::{Name, ObjectKind};

    #[tokio::test]
    async fn only_what_changed_is_taken_out_and_only_once() {
        let desired = Desired::default();
        let owner = |name: &str| ObjectRef::new(ObjectKind::Microservice, Name::new("shop", name));
        let rendered = |uid: &str| Some(Rendered { uid: uid.into(), objects: vec![] });
        desired.put(&owner("order"), rendered("1"));
        desired.put(&owner("user"), rendered("2"));
        assert_eq!(desired.all().len(), 2);
        desired.put(&owner("user"), rendered("2"));
        desired.put(&owner("order"), rendered("3"));
        desired.put(&owner("order"), None);
        assert_eq!(desired.changes().await, [(owner("order"), None)]);
        assert_eq!(desired.all().len(), 1);
    }
}
