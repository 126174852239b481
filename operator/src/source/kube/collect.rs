//! What is there, as far as the watches have said: turns what they say into changes, knows what a new list leaves out,
//! which Gateways are Weft's, which Secrets are pointed to, and when everything has been read once. Pure.

use std::collections::{BTreeMap, BTreeSet};

use weft_core::world::{Change, Name, Object, ObjectRef};
use weft_crds::gateway::Gateway;
use weft_crds::gateway_class::CONTROLLER;

use super::kind::Kind;
use super::read::{Said, removal};

/// What is there.
#[derive(Debug, Default)]
pub(super) struct Collector {
    known: BTreeMap<Kind, BTreeSet<Name>>,
    /// Kinds of which all has been said once, or cannot be.
    answered: BTreeSet<Kind>,
    /// Gateways of all controllers.
    gateways: BTreeMap<Name, Gateway>,
    /// Classes of Weft's controller.
    classes: BTreeSet<String>,
    /// Secrets that each object points to.
    pointers: BTreeMap<ObjectRef, BTreeSet<Name>>,
    /// How many point to each.
    wanted: BTreeMap<Name, usize>,
    /// Secrets that are known to be there or not.
    looked_up: BTreeSet<Name>,
    synced: bool,
}

impl Collector {
    /// What that changes.
    pub(super) fn take(&mut self, said: Said) -> Vec<Change> {
        match said {
            Said::Seen { kind, name, change } => self.seen(kind, name, change),
            Said::Gone { kind, name } => self.gone(kind, name),
            Said::Listed { kind, all } => {
                let known = self.known.entry(kind).or_default();
                let lost: Vec<Name> = known.difference(&all).cloned().collect();
                self.answered.insert(kind);
                lost.into_iter().flat_map(|name| self.gone(kind, name)).collect()
            }
            Said::Unanswered(kind) => {
                if kind.is_optional() {
                    self.answered.insert(kind);
                }
                Vec::new()
            }
            Said::SecretUnanswered(name) => {
                self.looked_up.insert(name);
                Vec::new()
            }
            Said::Nothing => Vec::new(),
        }
    }

    /// Brings the Secrets to follow up to date. Says whether they differ.
    pub(super) fn update_wanted(&self, known: &mut BTreeSet<Name>) -> bool {
        if known.len() == self.wanted.len() && known.iter().all(|name| self.wanted.contains_key(name)) {
            return false;
        }
        *known = self.wanted.keys().cloned().collect();
        true
    }

    /// True once: everything has been read, Secrets too.
    pub(super) fn becomes_synced(&mut self) -> bool {
        let all = Kind::LISTED.iter().all(|kind| self.answered.contains(kind))
            && self.wanted.keys().all(|secret| self.looked_up.contains(secret));
        let becomes = all && !self.synced;
        self.synced |= all;
        becomes
    }

    fn seen(&mut self, kind: Kind, name: Name, change: Change) -> Vec<Change> {
        if kind == Kind::Secret {
            self.looked_up.insert(name.clone());
            // It may be followed no longer, with this still on its way.
            if !self.wanted.contains_key(&name) {
                return Vec::new();
            }
        }
        self.known.entry(kind).or_default().insert(name);
        match change {
            Change::Upsert(object) => self.upsert(*object),
            other => vec![other],
        }
    }

    fn upsert(&mut self, object: Object) -> Vec<Change> {
        match object {
            Object::Gateway(gateway) => {
                let name = Object::Gateway(gateway.clone()).reference().name;
                self.gateways.insert(name.clone(), gateway);
                self.judge(&name)
            }
            Object::GatewayClass(class) => {
                let name = class.metadata.name.clone().unwrap_or_default();
                let ours = class.spec.controller_name == CONTROLLER;
                let class = Object::GatewayClass(class);
                let reference = class.reference();
                let change = if ours { Change::Upsert(Box::new(class)) } else { Change::Remove(reference) };
                std::iter::once(change).chain(self.set_class(&name, ours)).collect()
            }
            object => {
                self.point(object.reference(), object.secrets());
                vec![Change::Upsert(Box::new(object))]
            }
        }
    }

    fn gone(&mut self, kind: Kind, name: Name) -> Vec<Change> {
        if kind == Kind::Secret {
            self.looked_up.insert(name.clone());
        }
        self.known.entry(kind).or_default().remove(&name);
        if kind == Kind::Gateway {
            self.gateways.remove(&name);
        }
        if let Some(object) = kind.object() {
            self.point(ObjectRef::new(object, name.clone()), BTreeSet::new());
        }
        let class = (kind == Kind::GatewayClass).then(|| name.name.clone());
        let mut changes = vec![removal(kind, name)];
        changes.extend(class.into_iter().flat_map(|class| self.set_class(&class, false)));
        changes
    }

    /// Whether a class is Weft's decides about its Gateways.
    fn set_class(&mut self, class: &str, ours: bool) -> Vec<Change> {
        let changed = if ours { self.classes.insert(class.to_owned()) } else { self.classes.remove(class) };
        if !changed {
            return Vec::new();
        }
        let of_class = self.gateways.iter().filter(|(_, gateway)| gateway.spec.gateway_class_name == class);
        let names: Vec<Name> = of_class.map(|(name, _)| name.clone()).collect();
        names.iter().flat_map(|name| self.judge(name)).collect()
    }

    /// A Gateway of another controller is nothing to the mesh.
    fn judge(&mut self, name: &Name) -> Vec<Change> {
        let Some(gateway) = self.gateways.get(name) else { return Vec::new() };
        let ours = self.classes.contains(&gateway.spec.gateway_class_name);
        let object = Object::Gateway(gateway.clone());
        let reference = object.reference();
        let secrets = if ours { object.secrets() } else { BTreeSet::new() };
        self.point(reference.clone(), secrets);
        vec![if ours { Change::Upsert(Box::new(object)) } else { Change::Remove(reference) }]
    }

    fn point(&mut self, from: ObjectRef, to: BTreeSet<Name>) {
        if self.pointers.get(&from).map_or(to.is_empty(), |before| *before == to) {
            return;
        }
        for name in &to {
            *self.wanted.entry(name.clone()).or_default() += 1;
        }
        let before = if to.is_empty() { self.pointers.remove(&from) } else { self.pointers.insert(from, to) };
        for name in before.unwrap_or_default() {
            if let Some(count) = self.wanted.get_mut(&name) {
                *count -= 1;
            }
        }
        self.wanted.retain(|_, count| *count > 0);
        let wanted = &self.wanted;
        self.looked_up.retain(|name| wanted.contains_key(name));
    }
}

#[cfg(test)]
mod tests;
