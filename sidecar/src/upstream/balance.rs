//! Which endpoint of a destination serves the next attempt. One balancer per destination, shared by all workers; what
//! is known about an endpoint (load, latency, ejection) stands beside it in atomics and survives updates of the list.
//!
//! `PeakEwma` and `LeastRequest` take the better of two random endpoints; `RoundRobin` and `Random` follow the weights;
//! `ConsistentHash` walks a ring. Every policy prefers endpoints that are neither ejected nor tried by this request, and
//! uses the others only where nothing else is left: a doubtful endpoint is better than none. Where the rules say so, those
//! of the proxy's own zone come first as long as half of them are in use, and the share of one that is new or was ejected
//! grows slowly. Clock and randomness are arguments; picking allocates nothing.

mod endpoint;
mod group;
mod hash;
mod load;
mod ring;
mod schedule;
mod session;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;
use weft_api::v1;

pub use self::endpoint::{Endpoint, Picked};
use self::group::Group;
use self::hash::HashOn;
pub use self::hash::hash_key;
pub use self::session::Session;
use crate::config::snapshot::Pinned;
use crate::policy::ConfigError;
use crate::policy::outlier::Peers;

/// The endpoints of one destination and the rules to choose among them.
#[derive(Debug)]
pub struct Balancer {
    all: Group,
    /// Those of the proxy's own zone, where they are preferred and not all, or those that the cluster means for it: hints
    /// count where every endpoint has some, as in Kubernetes' own proxy.
    near: Option<Group>,
    hash_on: Option<HashOn>,
    /// How long the share of an endpoint grows that is new or comes back; none: not at all.
    slow_start: Option<Duration>,
    /// Where less than this share (in percent) of the endpoints is in use, all are.
    panic_percent: usize,
    endpoints: Arc<[Arc<Endpoint>]>,
}

/// What a balancer is made by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules<'a> {
    /// The policy; none: the default one.
    pub balancing: Option<&'a v1::LoadBalancing>,
    /// Share of endpoints in use, in percent, below which all are used.
    pub panic_percent: u32,
    /// Where this proxy is.
    pub zone: &'a str,
}

/// What one pick depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// For `ConsistentHash`, see [`Balancer::key`].
    pub key: Option<u64>,
    /// A random number.
    pub random: u64,
    /// Indices ([`Picked::index`]) of endpoints that this request has tried.
    pub tried: &'a [usize],
}

impl Balancer {
    /// Compiles rules and endpoints. Endpoints that `previous` knows by address keep what is known about them.
    pub fn new(
        rules: Rules<'_>,
        endpoints: &v1::Endpoints,
        previous: Option<&Self>,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        let known: HashMap<_, _> =
            previous.iter().flat_map(|p| p.endpoints.iter()).map(|e| (e.address(), e)).collect();
        // Among endpoints that are all new none is newer.
        let arrived = (!known.is_empty()).then_some(now);
        let state = |address| known.get(&address).copied().ok_or(arrived);
        let endpoints = endpoints
            .endpoints
            .iter()
            .map(|wire| Endpoint::new(wire, state, now).map(Arc::new))
            .collect::<Result<Arc<[_]>, _>>()?;
        let config = rules.balancing;
        let policy = config.map_or(v1::LbPolicy::PeakEwma, v1::LoadBalancing::policy);
        let slow_start = config.map(|config| config.slow_start_ms).filter(|ms| *ms > 0);
        let prefers = config.is_some_and(|config| config.prefer_zone) && !rules.zone.is_empty();
        let hinted =
            !rules.zone.is_empty() && endpoints.iter().all(|endpoint| !endpoint.for_zones().is_empty());
        let near = |index: &usize| (prefers || hinted) && endpoints[*index].is_near(rules.zone, hinted);
        let near: Box<[_]> = (0..endpoints.len()).filter(near).collect();
        let divided = !near.is_empty() && near.len() < endpoints.len();
        Ok(Self {
            all: Group::new(policy, &endpoints, (0..endpoints.len()).collect()),
            near: divided.then(|| Group::new(policy, &endpoints, near)),
            hash_on: config.and_then(|c| c.hash_on.as_ref()).map(HashOn::new).transpose()?.flatten(),
            // Keys that move twice would be worse than an instance that starts fast.
            slow_start: slow_start
                .filter(|_| policy != v1::LbPolicy::ConsistentHash)
                .map(Duration::from_millis),
            panic_percent: rules.panic_percent.min(100) as usize,
            endpoints,
        })
    }

    /// All endpoints, in the order of their indices.
    pub fn endpoints(&self) -> &Arc<[Arc<Endpoint>]> {
        &self.endpoints
    }

    /// How many there are and how many are left out now, for outlier detection.
    pub fn peers(&self, now: Instant) -> Peers {
        let ejected = self.endpoints.iter().filter(|e| e.ejection().is_ejected(now)).count();
        Peers { total: self.endpoints.len(), ejected }
    }

    /// Whether so few endpoints are in use that ejection is passed over.
    pub fn panics(&self, now: Instant) -> bool {
        self.panic_percent > 0 && {
            let Peers { total, ejected } = self.peers(now);
            ejected > 0 && (total - ejected) * 100 < total * self.panic_percent
        }
    }

    /// Whether there is an endpoint in use that this request has not tried.
    pub fn has_others(&self, tried: &[usize], now: Instant) -> bool {
        let usable =
            |(index, e): (usize, &Arc<Endpoint>)| !tried.contains(&index) && !e.ejection().is_ejected(now);
        self.endpoints.iter().enumerate().any(usable)
    }

    /// What `ConsistentHash` keeps together: the hash of the header, cookie or address that the policy names. None for
    /// other policies and where the request has none; such requests are spread at random.
    pub fn key(&self, headers: &HeaderMap, client_ip: IpAddr) -> Option<u64> {
        self.hash_on.as_ref()?.key(headers, client_ip)
    }

    /// The session that begins with this request: where the policy goes by a cookie that the proxy sets, and the request
    /// brings none.
    pub fn session(&self, headers: &HeaderMap, random: impl FnOnce() -> u128, tls: bool) -> Option<Session> {
        self.hash_on.as_ref()?.begin(headers, random, tls)
    }

    /// The endpoint for the next attempt; none only if there are no endpoints at all.
    pub fn pick(&self, ask: &Ask<'_>, now: Instant) -> Option<Picked> {
        let panics = self.panics(now);
        let fresh = |index: &usize| !ask.tried.contains(index);
        let in_use = |index: &usize| panics || !self.endpoints[*index].ejection().is_ejected(now);
        let best = |index: &usize| fresh(index) && in_use(index);
        let from =
            |group: &Group, usable: &dyn Fn(&usize) -> bool| group.choose(&self.endpoints, ask, now, usable);
        let first = |group: &Group| match self.slow_start {
            None => from(group, &best),
            Some(time) => from(group, &|index| {
                best(index) && self.endpoints[*index].is_up(time, hash::mix(ask.random ^ *index as u64), now)
            })
            .or_else(|| from(group, &best)),
        };
        let near = self.near.as_ref().filter(|near| near.keeps_up(&self.endpoints, now));
        let index = near
            .and_then(first)
            .or_else(|| first(&self.all))
            .or_else(|| from(&self.all, &in_use))
            .or_else(|| from(&self.all, &fresh))
            .or_else(|| from(&self.all, &|_| true))?;
        Some(Picked::new(Arc::clone(&self.endpoints[index]), index, !fresh(&index)))
    }

    /// The endpoint at an address that the caller named itself, whether or not it is one of the list.
    pub fn pinned(&self, pinned: Pinned, now: Instant) -> Picked {
        let known = self.endpoints.iter().position(|endpoint| endpoint.address() == pinned.address);
        match known {
            Some(index) => Picked::new(Arc::clone(&self.endpoints[index]), index, false),
            None => Picked::new(Arc::new(Endpoint::alone(pinned, now)), usize::MAX, false),
        }
    }
}

/// A random 32-bit number, brought below `count` without division.
fn scale(random: u64, count: usize) -> usize {
    usize::try_from((random * count as u64) >> 32).unwrap_or_default()
}

#[cfg(test)]
mod tests;
