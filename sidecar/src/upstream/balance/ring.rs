//! Consistent hashing: every endpoint stands at many points of a ring, a key belongs to the next point clockwise. When
//! an endpoint goes, only its keys move; when it is not usable now, its keys go to the next endpoints on the ring.
//! Points come from addresses alone, so all proxies agree.

use super::endpoint::Endpoint;
use super::hash::{hash_key, mix};

/// Points per unit of weight: spreads load to about a tenth.
const POINTS: u64 = 128;
/// Most points of a ring; above it every endpoint gets fewer.
const MAX_POINTS: u64 = 65_536;

#[derive(Debug)]
pub(super) struct Ring(Box<[(u64, u32)]>);

impl Ring {
    pub(super) fn new<'a>(endpoints: impl Iterator<Item = &'a Endpoint> + Clone) -> Self {
        let total: u64 = endpoints.clone().map(|e| u64::from(e.weight())).sum::<u64>().max(1);
        let per_weight = |weight: u64| (weight * POINTS).min((weight * MAX_POINTS / total).max(1));
        let mut points = Vec::new();
        for (index, endpoint) in (0u32..).zip(endpoints) {
            let seed = hash_key(endpoint.address().to_string().as_bytes());
            points.extend((0..per_weight(u64::from(endpoint.weight()))).map(|n| (mix(seed ^ mix(n)), index)));
        }
        points.sort_unstable();
        Self(points.into())
    }

    /// Indices from the key's place on, once around; an index comes more than once.
    pub(super) fn walk(&self, key: u64) -> impl Iterator<Item = usize> {
        let start = self.0.partition_point(|(point, _)| *point < key);
        let (before, after) = self.0.split_at(start);
        after.iter().chain(before).map(|(_, index)| *index as usize)
    }
}
