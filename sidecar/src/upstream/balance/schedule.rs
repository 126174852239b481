//! The weights of endpoints as one round: a list in which each index stands as often as its weight says, spread evenly.
//! Walked in order it is weighted round robin; a random place in it is a weighted random choice.

/// Longest round; larger weights are scaled down.
const MAX_SLOTS: u64 = 4096;

#[derive(Debug)]
pub(super) struct Schedule(Box<[u32]>);

impl Schedule {
    /// One round of these weights, each at least 1 (index = place in the iterator).
    pub(super) fn interleaved(weights: impl Iterator<Item = u32>) -> Self {
        let weights: Vec<u64> = weights.map(u64::from).collect();
        let divisor = weights.iter().copied().fold(0, gcd).max(1);
        let total: u64 = weights.iter().map(|w| w / divisor).sum();
        let room = MAX_SLOTS.max(weights.len() as u64);
        let scaled = |w: u64| if total > room { (w / divisor * room / total).max(1) } else { w / divisor };
        // The n-th of w turns stands at (2n + 1) / 2w of the round; sorted by place, then by index.
        let mut turns: Vec<(u64, u32)> = Vec::new();
        for (index, weight) in (0u32..).zip(weights) {
            let turn = scaled(weight);
            turns.extend((0..turn).map(|n| (((2 * n + 1) << 32) / (2 * turn), index)));
        }
        turns.sort_unstable();
        Self(turns.into_iter().map(|(_, index)| index).collect())
    }

    /// Indices from this place on, once around.
    pub(super) fn walk(&self, start: usize) -> impl Iterator<Item = usize> {
        let start = start.checked_rem(self.0.len()).unwrap_or_default();
        let (before, after) = self.0.split_at(start);
        after.iter().chain(before).map(|index| *index as usize)
    }

    /// A random index by weight, among the usable ones.
    pub(super) fn draw(&self, random: u64, usable: impl Fn(&usize) -> bool) -> Option<usize> {
        let random = random & 0xffff_ffff;
        let drawn = self.0.get(super::scale(random, self.0.len())).map(|index| *index as usize)?;
        if usable(&drawn) {
            return Some(drawn);
        }
        let list = || self.walk(0).filter(|index| usable(index));
        list().nth(super::scale(random, list().count()))
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round(weights: &[u32]) -> Vec<usize> {
        Schedule::interleaved(weights.iter().copied()).walk(0).collect()
    }

    #[test]
    fn a_round_spreads_each_weight_evenly() {
        assert_eq!(round(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(round(&[100, 100]), [0, 1]);
        assert_eq!(round(&[3, 1]), [0, 0, 1, 0]);
        assert_eq!(round(&[]), [0usize; 0]);
    }

    proptest! {
        #[test]
        fn each_index_has_its_weight(weights in prop::collection::vec(1u32..20, 1..12)) {
            let round = round(&weights);
            let divisor = weights.iter().fold(0, |d, w| gcd(d, u64::from(*w)));
            for (index, weight) in weights.iter().enumerate() {
                let turns = round.iter().filter(|i| **i == index).count() as u64;
                prop_assert_eq!(turns, u64::from(*weight) / divisor);
            }
        }

        #[test]
        fn huge_weights_stay_bounded_and_nobody_is_left_out(weights in prop::collection::vec(1u32.., 1..50)) {
            let round = round(&weights);
            prop_assert!(round.len() as u64 <= MAX_SLOTS + weights.len() as u64);
            prop_assert!((0..weights.len()).all(|index| round.contains(&index)));
        }
    }
}
