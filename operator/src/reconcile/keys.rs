//! Which key sets are to be fetched, and the way to each: a service of the mesh is asked at one of its ready instances,
//! everything else by DNS. What was fetched goes into the world as any other change.

use weft_api::v1::Keys;
use weft_api::v1::resource::Body;
use weft_core::compile;
use weft_core::world::{Change, World};

use super::Reconciler;
use crate::jwks::{Route, Wanted};

impl Reconciler {
    pub(super) fn take_keys(&mut self, name: String, keys: Keys) {
        self.keys.insert(name.clone(), keys.clone());
        self.reconcile([Change::Keys { name, keys }]);
    }

    /// Tells the fetcher what is wanted now, where that changed.
    pub(super) fn follow_keys(&mut self) {
        let wanted: Vec<Wanted> = compile::keys_wanted(&self.world)
            .into_iter()
            .map(|keys| Wanted {
                route: route(&self.world, keys.destination),
                name: keys.name,
                uri: keys.uri,
            })
            .collect();
        let inside = wanted.iter().filter_map(|wanted| match &wanted.route {
            Route::Mesh { destination, .. } => Some(destination.clone()),
            Route::Direct => None,
        });
        self.key_destinations = inside.collect();
        self.outlets.wanted_keys.send_if_modified(|known| {
            let changed = *known != wanted;
            *known = wanted;
            changed
        });
    }
}

fn route(world: &World, destination: Option<String>) -> Route {
    let Some(destination) = destination else { return Route::Direct };
    let resources = compile::destination(world, &destination);
    // What its routes lead to comes with it: only the destination itself counts.
    let bodies = || {
        resources
            .iter()
            .filter(|resource| resource.name == destination)
            .filter_map(|found| found.body.as_ref())
    };
    let mtls = bodies().find_map(|body| match body {
        Body::Destination(destination) => destination.mtls.clone(),
        _ => None,
    });
    let endpoints = bodies().filter_map(|body| match body {
        Body::Endpoints(endpoints) => Some(&endpoints.endpoints),
        _ => None,
    });
    let addresses = endpoints.flatten().filter_map(|endpoint| endpoint.address.parse().ok()).collect();
    Route::Mesh { addresses, identities: mtls.map(|mtls| mtls.identities).unwrap_or_default(), destination }
}
