//! The keys that tokens are checked with: from an address (fetched by the operator), a Secret, or the resource itself.
//!
//! A key set is named after where it comes from, not after who uses it: several services share one fetch, and keys of
//! one issuer can never be taken for another's when a list of issuers changes its order.

use std::collections::BTreeMap;

use weft_api::v1;
use weft_crds::microservice::Jwks;

use super::resource::{Body, Set};
use crate::world::lookup::{Uri, forbidden_host, jwks_of};
use crate::world::{Name, World};

/// A key set to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysSource {
    /// Name of the Keys resource, for [`crate::world::Change::Keys`].
    pub name: String,
    /// Where to fetch it.
    pub uri: String,
    /// The destination it is at, to be reached over mutual TLS; none: outside the mesh.
    pub destination: Option<String>,
    /// Services whose tokens it checks, sorted.
    pub wanted_by: Vec<Name>,
}

/// Every key set that the operator is to fetch, by name. Addresses that are refused are not among them.
pub fn keys_wanted(world: &World) -> Vec<KeysSource> {
    let mut wanted: BTreeMap<&str, KeysSource> = BTreeMap::new();
    for (name, service) in world.microservices() {
        for uri in jwks_of(service).filter_map(|jwks| jwks.uri.as_deref()) {
            let Some(parsed) = fetchable(uri) else { continue };
            let source = wanted.entry(uri).or_insert_with(|| KeysSource {
                name: uri.to_owned(),
                uri: uri.to_owned(),
                destination: world.destination_at(parsed.host, parsed.port),
                wanted_by: Vec::new(),
            });
            if source.wanted_by.last() != Some(name) {
                source.wanted_by.push(name.clone());
            }
        }
    }
    wanted.into_values().collect()
}

/// Name of the Keys resource of a service's issuer.
pub fn name(workload: &Name, at: usize, jwks: &Jwks) -> String {
    match (&jwks.uri, &jwks.secret_ref) {
        (Some(uri), _) if fetchable(uri).is_some() => uri.clone(),
        (None, Some(secret)) => format!("{}/secret/{}/{}", workload.namespace, secret.name, secret.key),
        _ => format!("{workload}/{at}"),
    }
}

/// An address that may be fetched: `validate` refuses all others, and if one gets here all the same it is not asked,
/// and not named either, since it may hold a password.
fn fetchable(uri: &str) -> Option<Uri<'_>> {
    Uri::parse(uri).filter(|uri| !uri.credentials && !forbidden_host(uri.host))
}

/// Adds the key sets of a service's issuers.
pub fn of(world: &World, workload: &Name, set: &mut Set) {
    let Some(service) = world.microservice(workload) else { return };
    for (at, jwks) in jwks_of(service).enumerate() {
        let name = name(workload, at, jwks);
        let keys = keys(world, workload, &name, jwks);
        set.add(&name, Body::Keys(keys));
    }
}

/// The requests that read the key sets which this service serves; none where it serves none.
pub fn request(world: &World, workload: &Name) -> Option<v1::RequestMatch> {
    let paths = world.key_paths(workload);
    let methods = vec!["GET".to_owned()];
    (!paths.is_empty()).then(|| v1::RequestMatch { methods, paths, ..v1::RequestMatch::default() })
}

fn keys(world: &World, workload: &Name, name: &str, jwks: &Jwks) -> v1::Keys {
    if let Some(uri) = &jwks.uri {
        return match world.keys.get(name) {
            _ if fetchable(uri).is_none() => failed("the address is refused"),
            Some(fetched) => fetched.clone(),
            None => failed("not fetched yet"),
        };
    }
    if let Some(reference) = &jwks.secret_ref {
        let secret = Name::new(&workload.namespace, &reference.name);
        return match world.secret_text(&secret, &reference.key) {
            Some(text) => given(&text),
            None => failed(&format!("Secret {secret} has no key {}", reference.key)),
        };
    }
    given(jwks.inline.as_deref().unwrap_or_default())
}

fn given(text: &str) -> v1::Keys {
    match key_set_problem(text) {
        None => v1::Keys { jwks: text.to_owned(), ..v1::Keys::default() },
        Some(problem) => failed(problem),
    }
}

/// What keeps a text from being a key set (RFC 7517, section 5); none where it is one.
pub fn key_set_problem(text: &str) -> Option<&'static str> {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else {
        return Some("the key set is not JSON");
    };
    match value.get("keys") {
        Some(serde_json::Value::Array(_)) => None,
        _ => Some("the key set has no list `keys`"),
    }
}

fn failed(why: &str) -> v1::Keys {
    v1::Keys { error: why.to_owned(), ..v1::Keys::default() }
}
