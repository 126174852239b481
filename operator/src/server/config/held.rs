//! What one proxy holds, and the next delta that brings it to its target: the protocol of `Config.Subscribe` without
//! its IO. One delta is outstanding at a time; a delta applies whole or not at all; a version that was refused is not
//! sent again until its content changes.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;
use sha2::{Digest, Sha256};
use weft_api::v1::{Delta, Kind, Resource, ResourceError, ResourceVersion};

use crate::publish::{Key, Target};

/// A delta carries at most this many bytes of resources, but always one resource: receivers limit messages to 4 MiB.
const MAX_DELTA: usize = 2 << 20;

/// Version under which a removal that was refused is remembered.
const REMOVED: &str = "";

/// What one proxy holds, refuses and is being sent.
#[derive(Debug)]
pub(super) struct Held {
    acked: BTreeMap<Key, String>,
    refused: BTreeMap<Key, String>,
    told_absent: BTreeSet<String>,
    in_flight: Option<InFlight>,
    deltas: u64,
}

#[derive(Debug)]
struct InFlight {
    nonce: String,
    /// New version by key; [`REMOVED`] for removals.
    changes: BTreeMap<Key, String>,
    absent: BTreeSet<String>,
}

impl Held {
    /// A proxy that still holds `have` from an earlier stream.
    pub(super) fn new(have: Vec<ResourceVersion>) -> Self {
        let acked = have.into_iter().map(|held| (key(held.kind(), &held.name), held.version)).collect();
        Self { acked, refused: BTreeMap::new(), told_absent: BTreeSet::new(), in_flight: None, deltas: 0 }
    }

    /// The next delta; none while one is outstanding or when there is nothing to say.
    pub(super) fn next_delta(&mut self, target: &Target) -> Option<Delta> {
        if self.in_flight.is_some() {
            return None;
        }
        self.forget_outdated_refusals(target);
        self.told_absent.retain(|name| target.absent.contains(name));
        let upserts = self.upserts(target);
        let gone = self.acked.keys().filter(|key| !target.resources.contains_key(key));
        let gone = gone.filter(|key| !self.refused.contains_key(key));
        let mut removals: Vec<ResourceVersion> = gone.map(removal).collect();
        let absent: BTreeSet<String> = target.absent.difference(&self.told_absent).cloned().collect();
        let unknown = absent.iter().map(|name| key(Kind::Destination, name));
        removals.extend(unknown.filter(|key| !self.acked.contains_key(key)).map(|key| removal(&key)));
        if upserts.is_empty() && removals.is_empty() {
            return None;
        }
        self.deltas += 1;
        let nonce = self.deltas.to_string();
        let changed = upserts.iter().map(|resource| (Key::of(resource), resource.version.clone()));
        let removed = removals.iter().map(|removal| (key(removal.kind(), &removal.name), REMOVED.to_owned()));
        let changes = changed.chain(removed).collect();
        self.in_flight = Some(InFlight { nonce: nonce.clone(), changes, absent });
        Some(Delta { nonce, upserts, removals })
    }

    /// The proxy applied the delta. False: no such delta is outstanding.
    pub(super) fn ack(&mut self, nonce: &str) -> bool {
        let Some(delta) = self.in_flight.take_if(|delta| delta.nonce == nonce) else { return false };
        for (key, version) in delta.changes {
            if version == REMOVED {
                self.acked.remove(&key)
            } else {
                self.acked.insert(key, version)
            };
        }
        self.told_absent.extend(delta.absent);
        true
    }

    /// The proxy refused the delta, because of the resources named. Those not named are sent again without them; when
    /// none of the delta is named, all of it counts as refused. False: no such delta is outstanding.
    pub(super) fn nack(&mut self, nonce: &str, errors: &[ResourceError]) -> bool {
        let Some(mut delta) = self.in_flight.take_if(|delta| delta.nonce == nonce) else { return false };
        self.told_absent.append(&mut delta.absent);
        let named: BTreeSet<Key> = errors.iter().map(|error| key(error.kind(), &error.name)).collect();
        let some_named = delta.changes.keys().any(|key| named.contains(key));
        let refused = delta.changes.into_iter().filter(|(key, _)| !some_named || named.contains(key));
        self.refused.extend(refused);
        true
    }

    /// Whether the proxy holds its whole target: nothing outstanding, nothing refused.
    pub(super) fn is_synced(&self, target: &Target) -> bool {
        let same = |(key, resource): (&Key, &std::sync::Arc<Resource>)| {
            self.acked.get(key).is_some_and(|version| *version == resource.version)
        };
        self.in_flight.is_none()
            && self.acked.len() == target.resources.len()
            && target.resources.iter().all(same)
    }

    /// Whether a version is refused that is still the target's.
    pub(super) fn has_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Hash over all that is acknowledged: equal hashes are equal configurations.
    pub(super) fn version(&self) -> String {
        let mut hash = Sha256::new();
        for (key, version) in &self.acked {
            for part in [key.kind.as_str_name(), &key.name, version] {
                hash.update(part.len().to_be_bytes());
                hash.update(part);
            }
        }
        let first = hash.finalize().into_iter().take(6).fold(0_u64, |all, byte| all << 8 | u64::from(byte));
        format!("{first:012x}")
    }

    fn upserts(&self, target: &Target) -> Vec<Resource> {
        let mut size = 0;
        let due = target.resources.iter().filter(|(key, resource)| {
            let has = |versions: &BTreeMap<Key, String>| {
                versions.get(key).is_some_and(|version| *version == resource.version)
            };
            !has(&self.acked) && !has(&self.refused)
        });
        due.map(|(_, resource)| resource)
            .take_while(|resource| {
                let first = size == 0;
                size += resource.encoded_len();
                first || size <= MAX_DELTA
            })
            .map(|resource| resource.as_ref().clone())
            .collect()
    }

    fn forget_outdated_refusals(&mut self, target: &Target) {
        let wanted =
            |key: &Key| target.resources.get(key).map_or(REMOVED, |resource| resource.version.as_str());
        self.refused.retain(|key, version| wanted(key) == version);
    }
}

fn key(kind: Kind, name: &str) -> Key {
    Key { kind, name: name.to_owned() }
}

fn removal(key: &Key) -> ResourceVersion {
    ResourceVersion { kind: key.kind.into(), name: key.name.clone(), version: String::new() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use weft_api::v1::{Endpoints, resource::Body};

    fn target(resources: &[(&str, &str)]) -> Target {
        let resource = |(name, version): &(&str, &str)| {
            let body = Some(Body::Endpoints(Endpoints::default()));
            Resource { name: (*name).into(), version: (*version).into(), body }
        };
        let all = resources.iter().map(resource).map(|resource| (Key::of(&resource), Arc::new(resource)));
        Target { resources: all.collect(), absent: BTreeSet::new(), number: 0 }
    }

    fn error(name: &str) -> ResourceError {
        ResourceError { kind: Kind::Endpoints.into(), name: name.into(), message: "bad".into() }
    }

    fn names(delta: Option<Delta>) -> (Vec<String>, Vec<String>) {
        let delta = delta.unwrap_or_default();
        let upserts =
            delta.upserts.into_iter().map(|resource| format!("{}@{}", resource.name, resource.version));
        (upserts.collect(), delta.removals.into_iter().map(|removal| removal.name).collect())
    }

    #[test]
    fn only_changes_are_sent_and_one_delta_at_a_time() {
        let mut held = Held::new(vec![]);
        let first = held.next_delta(&target(&[("a", "1"), ("b", "1")])).unwrap();
        assert_eq!(first.upserts.len(), 2);
        assert!(held.next_delta(&target(&[("a", "2"), ("b", "1")])).is_none(), "one is outstanding");
        assert!(!held.ack("other") && held.ack(&first.nonce));
        let second = target(&[("a", "3"), ("b", "1")]);
        assert_eq!(names(held.next_delta(&second)), (vec!["a@3".into()], vec![]));
        assert!(!held.is_synced(&second) && held.ack("2") && held.is_synced(&second));
    }

    #[test]
    fn what_a_proxy_still_has_is_not_sent_again() {
        let have = |name: &str, version: &str| {
            let kind = Kind::Endpoints.into();
            ResourceVersion { kind, name: name.into(), version: version.into() }
        };
        let mut held = Held::new(vec![have("a", "1"), have("b", "1"), have("old", "1")]);
        assert_eq!(
            names(held.next_delta(&target(&[("a", "1"), ("b", "2")]))),
            (vec!["b@2".into()], vec!["old".into()])
        );
    }

    #[test]
    fn a_refused_version_waits_for_new_content_and_holds_up_nothing_else() {
        let mut held = Held::new(vec![]);
        let both = target(&[("a", "1"), ("b", "1")]);
        let delta = held.next_delta(&both).unwrap();
        assert!(held.nack(&delta.nonce, &[error("a")]) && held.has_refused());
        let retry = held.next_delta(&both).unwrap();
        assert_eq!(names(Some(retry.clone())), (vec!["b@1".into()], vec![]));
        held.ack(&retry.nonce);
        assert!(held.next_delta(&both).is_none() && !held.is_synced(&both));
        let mended = target(&[("a", "2"), ("b", "1")]);
        assert_eq!(names(held.next_delta(&mended)), (vec!["a@2".into()], vec![]));
        assert!(!held.has_refused());
    }

    #[test]
    fn a_nack_that_names_nothing_of_the_delta_refuses_all_of_it() {
        let mut held = Held::new(vec![]);
        let both = target(&[("a", "1"), ("b", "1")]);
        let delta = held.next_delta(&both).unwrap();
        held.nack(&delta.nonce, &[error("elsewhere")]);
        assert!(held.next_delta(&both).is_none());
    }

    #[test]
    fn a_refused_removal_is_not_repeated() {
        let mut held = Held::new(vec![]);
        let delta = held.next_delta(&target(&[("a", "1")])).unwrap();
        held.ack(&delta.nonce);
        let removal = held.next_delta(&target(&[])).unwrap();
        held.nack(&removal.nonce, &[]);
        assert!(held.next_delta(&target(&[])).is_none());
        assert!(held.next_delta(&target(&[("a", "1")])).is_none(), "it still holds that version");
        assert!(held.is_synced(&target(&[("a", "1")])));
    }

    #[test]
    fn a_destination_that_does_not_exist_is_said_once() {
        let mut held = Held::new(vec![]);
        let ghost = Target { absent: BTreeSet::from(["shop/ghost:http".to_owned()]), ..Target::default() };
        let delta = held.next_delta(&ghost).unwrap();
        assert_eq!(names(Some(delta.clone())), (vec![], vec!["shop/ghost:http".into()]));
        held.ack(&delta.nonce);
        assert!(held.next_delta(&ghost).is_none() && held.is_synced(&ghost));
    }

    #[test]
    fn a_large_configuration_comes_in_several_deltas() {
        let mut large = target(&[]);
        for n in 0..5 {
            let jwks = "x".repeat(MAX_DELTA / 2);
            let body = Some(Body::Keys(weft_api::v1::Keys { jwks, ..Default::default() }));
            let resource = Resource { name: format!("k{n}"), version: "1".into(), body };
            large.resources.insert(Key::of(&resource), Arc::new(resource));
        }
        let mut held = Held::new(vec![]);
        let mut deltas = 0;
        while let Some(delta) = held.next_delta(&large) {
            assert!(delta.encoded_len() < 4 << 20);
            held.ack(&delta.nonce);
            deltas += 1;
        }
        assert!(held.is_synced(&large) && deltas > 1);
    }
}
