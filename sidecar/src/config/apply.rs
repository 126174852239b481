//! One delta onto one snapshot: whole, or not at all. Merges the resources, then `build` compiles what changed and
//! carries the state of the rest over. Pure; sending ack or nack is for `client.rs`.

use std::sync::Arc;

use weft_api::v1::{self, Kind};

use crate::config::build::build;
use crate::config::snapshot::Snapshot;

/// The snapshot after this delta, or what is wrong with which of its resources.
pub fn apply(previous: &Snapshot, delta: v1::Delta) -> Result<Snapshot, Vec<v1::ResourceError>> {
    let empty: Vec<_> = delta.upserts.iter().filter(|resource| resource.body.is_none()).map(newer).collect();
    if !empty.is_empty() {
        return Err(empty);
    }
    let mut resources = previous.resources.clone();
    let mut unknown = Vec::new();
    for removal in &delta.removals {
        resources.remove(&(removal.kind(), removal.name.clone()));
        if removal.kind() == Kind::Destination {
            unknown.push(Arc::from(removal.name.as_str()));
        }
    }
    for resource in delta.upserts {
        resources.insert((resource.kind(), resource.name.clone()), Arc::new(resource));
    }
    let mut snapshot = build(resources, previous)?;
    // A destination that is taken away, or that was asked for and never was there, does not exist; requests need not
    // wait for it. `build` takes it out of the list again once it comes.
    snapshot.unknown.extend(unknown.into_iter().filter(|name| !snapshot.destinations.contains_key(name)));
    Ok(snapshot)
}

fn newer(resource: &v1::Resource) -> v1::ResourceError {
    v1::ResourceError {
        kind: Kind::Unspecified.into(),
        name: resource.name.clone(),
        message: "this proxy does not know this kind of resource; update the proxy".to_owned(),
    }
}

#[cfg(test)]
mod tests;
