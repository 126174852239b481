//! What compiling a rule is for every kind of route whose rules match, filter and divide requests: matches that cannot be
//! understood are left out, so they take nothing; a filter that cannot be done makes the rule answer 500, as the Gateway
//! API asks: skipping it would send on requests that it was to change or stop.
//!
//! What a match or a filter of a kind means is said by the kind ([`Said`]).

use weft_api::v1;
use weft_api::v1::filter::Filter;
use weft_crds::gateway_meta::WeightedBackend;

use super::filters;
use super::rank::MatchRank;
use super::{Rule, Unsupported, backend};
use crate::world::{RouteView, World};

/// A rule as its route says it.
pub(super) trait Said {
    /// One match; the default takes everything.
    type Match: Default;
    /// One filter.
    type Filter;

    /// What it takes; none means everything.
    fn matches(&self) -> &[Self::Match];
    /// What is done to all of it.
    fn filters(&self) -> &[Self::Filter];
    /// Where it goes.
    fn backends(&self) -> &[WeightedBackend<Self::Filter>];

    /// Compiles one match, with how specific it is.
    fn compile_match(matched: &Self::Match) -> Result<(MatchRank, v1::RouteMatch), String>;
    /// Compiles one filter; none for one that does nothing here.
    fn compile_filter(
        world: &World,
        route: RouteView<'_>,
        filter: &Self::Filter,
    ) -> Result<Option<Filter>, String>;
}

/// One rule, compiled but for hosts and order.
pub(super) fn compile<S: Said>(world: &World, route: RouteView<'_>, said: &S) -> Rule {
    let mut compiled = Rule::default();
    let everything = [S::Match::default()];
    let matches = if said.matches().is_empty() { everything.as_slice() } else { said.matches() };
    for (at, matched) in matches.iter().enumerate() {
        match S::compile_match(matched) {
            Ok(matched) => compiled.matches.push(matched),
            Err(message) => {
                compiled.unsupported.push(Unsupported { field: format!("matches[{at}]"), message });
            }
        }
    }
    let mut unsupported = Vec::new();
    let filters = all_filters::<S>(world, route, said.filters(), &mut unsupported);
    let serving = said.backends().iter().filter(|backend| backend.weight > 0);
    let weighted = serving.map(|reference| v1::Backend {
        filters: all_filters::<S>(world, route, &reference.filters, &mut unsupported),
        ..backend(world, route, &reference.reference, reference.weight)
    });
    let backends = weighted.collect();
    if unsupported.is_empty() {
        compiled.action.filters = filters;
        compiled.action.backends = backends;
    }
    compiled.unsupported.append(&mut unsupported);
    compiled
}

/// What a filter's type says must stand beside it.
pub(super) fn beside<'a, T>(field: &str, value: Option<&'a T>) -> Result<&'a T, String> {
    value.ok_or_else(|| format!("`{field}` is missing beside the type"))
}

fn all_filters<S: Said>(
    world: &World,
    route: RouteView<'_>,
    said: &[S::Filter],
    unsupported: &mut Vec<Unsupported>,
) -> Vec<v1::Filter> {
    let mut compiled = Vec::new();
    for (at, filter) in said.iter().enumerate() {
        match S::compile_filter(world, route, filter) {
            Ok(filter) => compiled.extend(filter.map(filters::filter)),
            Err(message) => unsupported.push(Unsupported { field: format!("filters[{at}]"), message }),
        }
    }
    compiled
}
