//! Which endpoint of a destination serves the next attempt. One balancer per destination, shared by all workers; what
//! is known about an endpoint (load, latency, ejection) stands beside it in atomics and survives updates of the list.
//!
//! `PeakEwma` and `LeastRequest` take the better of two random endpoints; `RoundRobin` and `Random` follow the weights;
//! `ConsistentHash` walks a ring. Every policy prefers endpoints that are neither ejected nor tried by this request, and
//! uses the others only where nothing else is left: a doubtful endpoint is better than none. Clock and randomness are
//! arguments; picking allocates nothing.

mod endpoint;
mod hash;
mod load;
mod ring;
mod schedule;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderMap;
use tokio::time::Instant;
use weft_api::v1;

pub use self::endpoint::{Endpoint, Picked};
use self::hash::HashOn;
pub use self::hash::hash_key;
use self::ring::Ring;
use self::schedule::Schedule;
use crate::config::snapshot::Pinned;
use crate::policy::ConfigError;
use crate::policy::outlier::Peers;

/// The endpoints of one destination and the rule to choose among them.
#[derive(Debug)]
pub struct Balancer {
    policy: Policy,
    hash_on: Option<HashOn>,
    endpoints: Arc<[Arc<Endpoint>]>,
}

#[derive(Debug)]
enum Policy {
    PeakEwma,
    LeastRequest,
    RoundRobin { schedule: Schedule, cursor: AtomicUsize },
    Random(Schedule),
    ConsistentHash(Ring),
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
    /// Compiles rule and endpoints. Endpoints that `previous` knows by address keep what is known about them.
    pub fn new(
        config: Option<&v1::LoadBalancing>,
        endpoints: &v1::Endpoints,
        previous: Option<&Self>,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        let known: HashMap<_, _> =
            previous.iter().flat_map(|p| p.endpoints.iter()).map(|e| (e.address(), e)).collect();
        let endpoints = endpoints
            .endpoints
            .iter()
            .map(|wire| Endpoint::new(wire, |address| known.get(&address).copied(), now).map(Arc::new))
            .collect::<Result<Arc<[_]>, _>>()?;
        let policy =
            Policy::new(config.map_or(v1::LbPolicy::PeakEwma, v1::LoadBalancing::policy), &endpoints);
        let hash_on = config.and_then(|c| c.hash_on.as_ref()).map(HashOn::new).transpose()?.flatten();
        Ok(Self { policy, hash_on, endpoints })
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

    /// The endpoint for the next attempt; none only if there are no endpoints at all.
    pub fn pick(&self, ask: &Ask<'_>, now: Instant) -> Option<Picked> {
        let fresh = |index: &usize| !ask.tried.contains(index);
        let in_use = |index: &usize| !self.endpoints[*index].ejection().is_ejected(now);
        let index = self
            .choose(ask, now, |index| fresh(index) && in_use(index))
            .or_else(|| self.choose(ask, now, in_use))
            .or_else(|| self.choose(ask, now, fresh))
            .or_else(|| self.choose(ask, now, |_| true))?;
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

    fn choose(&self, ask: &Ask<'_>, now: Instant, usable: impl Fn(&usize) -> bool) -> Option<usize> {
        match &self.policy {
            Policy::PeakEwma => {
                self.better_of_two(ask.random, usable, |e| e.load().cost(now) / e.weight_f64())
            }
            Policy::LeastRequest => self
                .better_of_two(ask.random, usable, |e| f64::from(e.load().inflight() + 1) / e.weight_f64()),
            Policy::RoundRobin { schedule, cursor } => {
                schedule.walk(cursor.fetch_add(1, Ordering::Relaxed)).find(usable)
            }
            Policy::Random(schedule) => schedule.draw(ask.random, usable),
            Policy::ConsistentHash(ring) => ring.walk(ask.key.unwrap_or(ask.random)).find(usable),
        }
    }

    /// Power of two choices: two different usable endpoints at random, then the cheaper one.
    fn better_of_two(
        &self,
        random: u64,
        usable: impl Fn(&usize) -> bool,
        cost: impl Fn(&Endpoint) -> f64,
    ) -> Option<usize> {
        let (low, high) = (random & 0xffff_ffff, random >> 32);
        let all = self.endpoints.len();
        let (first, second) = two_of(all, low, high)?;
        let (first, second) = if usable(&first) && usable(&second) {
            (first, second)
        } else {
            // Some are not usable: draw among those that are, so that each stays equally likely.
            let list = || (0..all).filter(|index| usable(index));
            let (first, second) = two_of(list().count(), low, high)?;
            (list().nth(first)?, list().nth(second)?)
        };
        let cheaper = cost(&self.endpoints[second]) < cost(&self.endpoints[first]);
        Some(if cheaper { second } else { first })
    }
}

impl Policy {
    fn new(policy: v1::LbPolicy, endpoints: &[Arc<Endpoint>]) -> Self {
        let weights = || endpoints.iter().map(|e| e.weight());
        match policy {
            v1::LbPolicy::Unspecified | v1::LbPolicy::PeakEwma => Self::PeakEwma,
            v1::LbPolicy::LeastRequest => Self::LeastRequest,
            v1::LbPolicy::RoundRobin => {
                Self::RoundRobin { schedule: Schedule::interleaved(weights()), cursor: AtomicUsize::new(0) }
            }
            v1::LbPolicy::Random => Self::Random(Schedule::interleaved(weights())),
            v1::LbPolicy::ConsistentHash => Self::ConsistentHash(Ring::new(endpoints)),
        }
    }
}

/// Two different numbers below `count` (the same one twice where there is only one), from two random 32-bit numbers.
fn two_of(count: usize, low: u64, high: u64) -> Option<(usize, usize)> {
    match count {
        0 => None,
        1 => Some((0, 0)),
        _ => {
            let first = scale(low, count);
            let second = scale(high, count - 1);
            Some((first, second + usize::from(second >= first)))
        }
    }
}

/// A random 32-bit number, brought below `count` without division.
fn scale(random: u64, count: usize) -> usize {
    usize::try_from((random * count as u64) >> 32).unwrap_or_default()
}

#[cfg(test)]
mod tests;
