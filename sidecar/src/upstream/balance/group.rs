//! Endpoints to choose among by one policy: all of a destination, or those of one zone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::Instant;
use weft_api::v1;

use super::Ask;
use super::endpoint::Endpoint;
use super::ring::Ring;
use super::scale;
use super::schedule::Schedule;

/// Some of the endpoints, by their indices in the balancer's list, and the rule to choose among them.
#[derive(Debug)]
pub(super) struct Group {
    policy: Policy,
    members: Box<[usize]>,
}

/// What these hold are places in the list of members.
#[derive(Debug)]
enum Policy {
    PeakEwma,
    LeastRequest,
    RoundRobin { schedule: Schedule, cursor: AtomicUsize },
    Random(Schedule),
    ConsistentHash(Ring),
}

impl Group {
    pub(super) fn new(policy: v1::LbPolicy, endpoints: &[Arc<Endpoint>], members: Box<[usize]>) -> Self {
        let weights = || members.iter().map(|index| endpoints[*index].weight());
        let policy = match policy {
            v1::LbPolicy::Unspecified | v1::LbPolicy::PeakEwma => Policy::PeakEwma,
            v1::LbPolicy::LeastRequest => Policy::LeastRequest,
            v1::LbPolicy::RoundRobin => {
                Policy::RoundRobin { schedule: Schedule::interleaved(weights()), cursor: AtomicUsize::new(0) }
            }
            v1::LbPolicy::Random => Policy::Random(Schedule::interleaved(weights())),
            v1::LbPolicy::ConsistentHash => {
                Policy::ConsistentHash(Ring::new(members.iter().map(|index| &*endpoints[*index])))
            }
        };
        Self { policy, members }
    }

    /// Whether at least half of it is in use, so that it can carry what comes.
    pub(super) fn keeps_up(&self, endpoints: &[Arc<Endpoint>], now: Instant) -> bool {
        let ejected = self.members.iter().filter(|index| endpoints[**index].ejection().is_ejected(now));
        ejected.count() * 2 <= self.members.len()
    }

    /// The index of a usable endpoint, by the policy.
    pub(super) fn choose(
        &self,
        endpoints: &[Arc<Endpoint>],
        ask: &Ask<'_>,
        now: Instant,
        usable: impl Fn(&usize) -> bool,
    ) -> Option<usize> {
        let usable_at = |place: &usize| usable(&self.members[*place]);
        let place = match &self.policy {
            Policy::PeakEwma => self.better_of_two(ask.random, usable_at, |index| {
                let endpoint = &endpoints[index];
                endpoint.load().cost(now) / endpoint.weight_f64()
            }),
            Policy::LeastRequest => self.better_of_two(ask.random, usable_at, |index| {
                let endpoint = &endpoints[index];
                f64::from(endpoint.load().inflight() + 1) / endpoint.weight_f64()
            }),
            Policy::RoundRobin { schedule, cursor } => {
                schedule.walk(cursor.fetch_add(1, Ordering::Relaxed)).find(usable_at)
            }
            Policy::Random(schedule) => schedule.draw(ask.random, usable_at),
            Policy::ConsistentHash(ring) => ring.walk(ask.key.unwrap_or(ask.random)).find(usable_at),
        };
        place.map(|place| self.members[place])
    }

    /// Power of two choices: two different usable endpoints at random, then the cheaper one.
    fn better_of_two(
        &self,
        random: u64,
        usable: impl Fn(&usize) -> bool,
        cost: impl Fn(usize) -> f64,
    ) -> Option<usize> {
        let (low, high) = (random & 0xffff_ffff, random >> 32);
        let all = self.members.len();
        let (first, second) = two_of(all, low, high)?;
        let (first, second) = if usable(&first) && usable(&second) {
            (first, second)
        } else {
            // Some are not usable: draw among those that are, so that each stays equally likely.
            let list = || (0..all).filter(|place| usable(place));
            let (first, second) = two_of(list().count(), low, high)?;
            (list().nth(first)?, list().nth(second)?)
        };
        let cheaper = cost(self.members[second]) < cost(self.members[first]);
        Some(if cheaper { second } else { first })
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
