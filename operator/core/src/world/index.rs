//! Who points to whom, turned around: what an event asks for is looked up instead of searched for among all objects.
//!
//! Every entry follows from one stored object and goes with it, so the order of changes does not count. Pods have an
//! index of their own in `members`.

use std::collections::{BTreeMap, BTreeSet};

use weft_api::v1;
use weft_crds::microservice::Microservice;

use super::affected::breakers;
use super::lookup::key_hosts;
use super::object::{InstanceRef, Name, ObjectRef};
use super::route::RouteView;

/// Several values under one key.
#[derive(Clone, Debug)]
pub(super) struct Many<K, V>(BTreeMap<K, BTreeSet<V>>);

impl<K: Ord, V: Ord> Many<K, V> {
    /// What is under a key.
    pub(super) fn of(&self, key: &K) -> impl Iterator<Item = &V> {
        self.0.get(key).into_iter().flatten()
    }

    /// Keys that something is under.
    pub(super) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.keys()
    }

    /// How much is under a key.
    pub(super) fn count(&self, key: &K) -> usize {
        self.0.get(key).map_or(0, BTreeSet::len)
    }

    /// Adds one.
    pub(super) fn add(&mut self, key: K, value: V) {
        self.0.entry(key).or_default().insert(value);
    }

    /// Takes one away.
    pub(super) fn take(&mut self, key: &K, value: &V) {
        if let Some(values) = self.0.get_mut(key) {
            values.remove(value);
            if values.is_empty() {
                self.0.remove(key);
            }
        }
    }
}

impl<K, V> Default for Many<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

/// A label of a namespace's pods: namespace, key, value.
pub(super) type Label = (String, String, String);

/// Who points to whom.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// Services by the callers that their rules name.
    pub(super) naming: Many<Name, Name>,
    /// Services by the services that serve their keys.
    pub(super) keyed_at: Many<Name, Name>,
    /// Services by every label that they select pods by.
    pub(super) selecting: Many<Label, Name>,
    /// Routes by the services they lead to.
    pub(super) leading_to: Many<Name, ObjectRef>,
    /// Routes by the services they hang on.
    pub(super) on_service: Many<Name, ObjectRef>,
    /// Routes by the Gateways they hang on.
    pub(super) on_gateway: Many<Name, ObjectRef>,
    /// Callers by the services whose breakers they report.
    pub(super) reporting: Many<Name, InstanceRef>,
}

impl Index {
    /// Takes over that a Microservice changed, came or went.
    pub(super) fn microservice(
        &mut self,
        name: &Name,
        old: Option<&Microservice>,
        new: Option<&Microservice>,
    ) {
        if let Some(old) = old {
            named(name, old).for_each(|caller| self.naming.take(&caller, name));
            key_hosts(old).for_each(|host| self.keyed_at.take(&host, name));
            labels(name, old).for_each(|label| self.selecting.take(&label, name));
        }
        if let Some(new) = new {
            named(name, new).for_each(|caller| self.naming.add(caller, name.clone()));
            key_hosts(new).for_each(|host| self.keyed_at.add(host, name.clone()));
            labels(name, new).for_each(|label| self.selecting.add(label, name.clone()));
        }
    }

    /// Takes over that a route is there.
    pub(super) fn add_route(&mut self, route: RouteView<'_>) {
        let reference = route.reference();
        route.backend_services().for_each(|service| self.leading_to.add(service, reference.clone()));
        route.services().for_each(|service| self.on_service.add(service, reference.clone()));
        route.gateways().for_each(|gateway| self.on_gateway.add(gateway, reference.clone()));
    }

    /// Takes over that a route is there no longer.
    pub(super) fn take_route(&mut self, route: RouteView<'_>) {
        let reference = route.reference();
        route.backend_services().for_each(|service| self.leading_to.take(&service, &reference));
        route.services().for_each(|service| self.on_service.take(&service, &reference));
        route.gateways().for_each(|gateway| self.on_gateway.take(&gateway, &reference));
    }

    /// Takes over what an instance reports now.
    pub(super) fn report(
        &mut self,
        instance: &InstanceRef,
        old: Option<&v1::Report>,
        new: Option<&v1::Report>,
    ) {
        for service in breakers(old).into_keys() {
            self.reporting.take(&service, instance);
        }
        for service in breakers(new).into_keys() {
            self.reporting.add(service, instance.clone());
        }
    }
}

/// The callers that rules of a service name.
fn named<'a>(own: &'a Name, service: &'a Microservice) -> impl Iterator<Item = Name> + 'a {
    let rules = service.spec.authorization.as_ref().map(|authorization| authorization.rules.as_slice());
    let texts = rules.unwrap_or_default().iter().flat_map(|rule| &rule.from.services);
    texts.map(|text| Name::relative(text, &own.namespace))
}

/// The labels that a service selects its pods by.
pub(super) fn labels<'a>(own: &'a Name, service: &Microservice) -> impl Iterator<Item = Label> + use<'a> {
    service.pod_selector().into_iter().map(|(key, value)| (own.namespace.clone(), key, value))
}
