//! Routes in the order in which a proxy tries them.
//!
//! Gateway API precedence: the most specific host, then an exact path before a regular expression before the longest
//! prefix, then a method, more headers, more query parameters, then the oldest route, its name, the order of rules. Each
//! match of each rule stands by itself while they are sorted; neighbours of one rule are put together again.

pub mod filters;
pub mod grpc;
pub mod http;
pub mod rank;
mod rule;
pub mod tls;

use std::collections::BTreeSet;

use weft_api::v1;
use weft_crds::gateway::{Gateway, Listener};
use weft_crds::gateway_meta::ObjectReference;
use weft_crds::microservice::Protocol;

use super::attach;
use crate::world::lookup;
use crate::world::{Name, RouteView, World};
use rank::{MatchRank, Rank};

/// A rule of a route, compiled but for hosts and order.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// Requests it takes, each with how specific it is. Matches that cannot be understood are left out.
    pub matches: Vec<(MatchRank, v1::RouteMatch)>,
    /// What is done with them: everything but name, hosts and matches.
    pub action: v1::Route,
    /// What of the rule cannot be done, by field, for the status.
    pub unsupported: Vec<Unsupported>,
}

/// A part of a rule that cannot be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// Where, below the rule.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// The routes of a gateway's listener.
pub fn of_listener(world: &World, gateway: (&Name, &Gateway), listener: &Listener) -> v1::Routes {
    let mut order = Order::default();
    for (route, hosts) in attach::at_listener(world, gateway, listener) {
        order.add(world, route, &hosts);
    }
    order.into_routes()
}

/// The routes of a destination: those that name its Service as their parent.
pub fn of_destination(world: &World, name: &str) -> v1::Routes {
    let mut order = Order::default();
    if let Some((service, _, port)) =
        world.destination(name).filter(|(.., port)| port.protocol != Some(Protocol::Tcp))
    {
        for route in world.routes_on_service(&service) {
            let mut parents = route.parents().iter().filter(|parent| parent.is_service());
            let here = parents.any(|parent| {
                parent.port.is_none_or(|number| number == port.port)
                    && attach::to_service(world, parent, route) == Ok(service.clone())
            });
            if here {
                // Inside the mesh the parent says whose requests are meant; hosts are not looked at.
                order.add(world, route, &[]);
            }
        }
    }
    order.into_routes()
}

/// Every destination that routes lead to, mirrors included.
pub fn destinations(routes: &v1::Routes) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for route in &routes.routes {
        mirrors(&route.filters, &mut found);
        for backend in &route.backends {
            mirrors(&backend.filters, &mut found);
            found.insert(backend.destination.clone());
        }
    }
    found.remove("");
    found
}

/// The rules of a route of any kind.
pub fn rules(world: &World, route: RouteView<'_>) -> Vec<Rule> {
    match route {
        RouteView::Http(object) => {
            object.spec.rules.iter().map(|rule| http::rule(world, route, rule)).collect()
        }
        RouteView::Grpc(object) => {
            object.spec.rules.iter().map(|rule| rule::compile(world, route, rule)).collect()
        }
        RouteView::Tls(object) => tls::rules(world, route, object),
    }
}

/// A backend with its share; one that leads nowhere keeps its share, which is answered with 500 or closed.
pub(super) fn backend(
    world: &World,
    route: RouteView<'_>,
    reference: &ObjectReference,
    weight: u32,
) -> v1::Backend {
    let destination = match world.backend(route, reference) {
        lookup::Backend::Destination(name) => name,
        lookup::Backend::InvalidKind | lookup::Backend::NotFound | lookup::Backend::NotPermitted => {
            String::new()
        }
    };
    v1::Backend { destination, weight, ..v1::Backend::default() }
}

fn mirrors(filters: &[v1::Filter], found: &mut BTreeSet<String>) {
    for filter in filters {
        if let Some(v1::filter::Filter::Mirror(backend)) = &filter.filter {
            found.insert(backend.destination.clone());
        }
    }
}

/// Matches on their way into order.
#[derive(Default)]
struct Order {
    candidates: Vec<(Rank, v1::Route)>,
}

impl Order {
    fn add(&mut self, world: &World, route: RouteView<'_>, hosts: &[String]) {
        let name = route.name();
        let any = [String::new()];
        let hosts = if hosts.is_empty() { &any } else { hosts };
        for (at, rule) in rules(world, route).into_iter().enumerate() {
            for host in hosts {
                self.add_rule(route, (&name, at), &rule, host);
            }
        }
    }

    fn add_rule(&mut self, route: RouteView<'_>, rule_at: (&Name, usize), rule: &Rule, host: &str) {
        let (name, at) = rule_at;
        for (rank, matched) in &rule.matches {
            let compiled = v1::Route {
                name: format!("{name}/{at}"),
                hosts: (!host.is_empty()).then(|| host.to_owned()).into_iter().collect(),
                matches: vec![matched.clone()],
                ..rule.action.clone()
            };
            let rank = Rank::new(host, rank.clone(), route.created(), (route.kind(), name.clone(), at));
            self.candidates.push((rank, compiled));
        }
    }

    fn into_routes(mut self) -> v1::Routes {
        self.candidates.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut routes: Vec<v1::Route> = Vec::new();
        for (_, next) in self.candidates {
            match routes.last_mut() {
                Some(last) if last.name == next.name && last.hosts == next.hosts => {
                    last.matches.extend(next.matches);
                }
                Some(last) if last.name == next.name && last.matches == next.matches => {
                    last.hosts.extend(next.hosts);
                }
                _ => routes.push(next),
            }
        }
        v1::Routes { routes }
    }
}
