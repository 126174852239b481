//! The rule of a `TLSRoute`. There is nothing to match but the server name, which is the route's own.

use weft_api::v1;
use weft_crds::tls_route::{TlsRoute, TlsRouteRule};

use super::rank::MatchRank;
use super::{Rule, Unsupported, backend};
use crate::world::{RouteView, World};

/// Its rules, compiled but for hosts and order: the first takes every connection, so none is left for others.
pub(super) fn rules(world: &World, route: RouteView<'_>, object: &TlsRoute) -> Vec<Rule> {
    let mut rules: Vec<Rule> = object.spec.rules.iter().map(|one| rule(world, route, one)).collect();
    for never in rules.iter_mut().skip(1) {
        let message = "the first rule takes every connection".to_owned();
        never.matches.clear();
        never.unsupported.push(Unsupported { field: "backendRefs".to_owned(), message });
    }
    rules
}

fn rule(world: &World, route: RouteView<'_>, rule: &TlsRouteRule) -> Rule {
    let serving = rule.backend_refs.iter().filter(|backend| backend.weight > 0);
    let backends = serving.map(|to| backend(world, route, &to.reference, to.weight)).collect();
    Rule {
        matches: vec![(MatchRank::default(), v1::RouteMatch::default())],
        action: v1::Route { backends, ..v1::Route::default() },
        unsupported: Vec::new(),
    }
}
