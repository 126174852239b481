//! When requests are sent: an open loop. Arrivals follow a timetable that no answer can delay, as customers do who know
//! nothing of each other; a slow answer therefore shows in the latency of all who had to wait, and not in fewer requests.

use std::time::Duration;

use clap::ValueEnum;

/// How arrivals are spread over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Spread {
    /// By chance, as customers come (a Poisson process).
    Poisson,
    /// At equal distances.
    Even,
}

/// The timetable: how long after the start each request is due.
pub(crate) struct Arrivals {
    rate: f64,
    spread: Spread,
    random: Random,
    /// In mean distances, so that many small steps do not add up to an error.
    next: f64,
    until: f64,
}

impl Arrivals {
    /// So many per second, for that long.
    pub(crate) fn new(rate: f64, spread: Spread, until: Duration, seed: u64) -> Self {
        Self { rate, spread, random: Random::new(seed), next: 0.0, until: until.as_secs_f64() }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let step = match self.spread {
            Spread::Even => 1.0,
            Spread::Poisson => -(1.0 - self.random.unit()).ln(),
        };
        self.next += step;
        let due = self.next / self.rate;
        (due < self.until).then(|| Duration::from_secs_f64(due))
    }
}

/// Chance that is the same in each run with the same seed (splitmix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// The chance of that seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// At least 0 and below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Below that number, which is not 0.
    pub(crate) fn below(&mut self, most: usize) -> usize {
        (self.unit() * most as f64) as usize
    }
}

/// Which of several is meant: the first most often, the n-th as often as 1/n^s says (Zipf).
pub(crate) struct Zipf {
    /// Ends of each one's share of 0 to 1.
    ends: Vec<f64>,
}

impl Zipf {
    /// Of so many, with that exponent; 0 means all alike.
    pub(crate) fn new(count: usize, exponent: f64) -> Self {
        let weights = (1..=count).map(|place| (place as f64).powf(-exponent));
        let sum: f64 = weights.clone().sum();
        let mut end = 0.0;
        let ends = weights.map(|weight| {
            end += weight / sum;
            end
        });
        Self { ends: ends.collect() }
    }

    /// One of them.
    pub(crate) fn pick(&self, random: &mut Random) -> usize {
        let at = random.unit();
        self.ends.partition_point(|end| *end <= at).min(self.ends.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(spread: Spread, rate: f64) -> Vec<Duration> {
        Arrivals::new(rate, spread, Duration::from_secs(10), 1).collect()
    }

    #[test]
    fn even_arrivals_have_equal_distances() {
        let times = times(Spread::Even, 10.0);
        assert_eq!(times.len(), 99);
        assert_eq!((times[0].as_millis(), times[98].as_millis()), (100, 9900));
    }

    #[test]
    fn poisson_arrivals_keep_the_rate_and_vary() {
        let times = times(Spread::Poisson, 1000.0);
        assert!((9_500..10_500).contains(&times.len()), "{}", times.len());
        assert!(times.is_sorted());
        let gaps: Vec<f64> =
            times.windows(2).map(|pair| pair[1].saturating_sub(pair[0]).as_secs_f64() * 1000.0).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!(
            (0.9..1.1).contains(&variance),
            "of exponential gaps it is the square of the mean: {variance}"
        );
    }

    #[test]
    fn the_first_is_picked_as_often_as_zipf_says() {
        let (zipf, mut random) = (Zipf::new(10, 1.0), Random::new(7));
        let mut counts = [0_u32; 10];
        for _ in 0..29_290 {
            counts[zipf.pick(&mut random)] += 1;
        }
        // 1 / (1 + 1/2 + … + 1/10) of 29,290 is 10,000.
        assert!((9_700..10_300).contains(&counts[0]), "{counts:?}");
        assert!((800..1_200).contains(&counts[9]), "{counts:?}");
        assert_eq!(Zipf::new(1, 3.0).pick(&mut random), 0);
    }

    #[test]
    fn the_same_seed_is_the_same_run() {
        let picks = |seed| (0..5).map(|_| Random::new(seed).below(100)).collect::<Vec<_>>();
        assert_eq!(picks(3), picks(3));
    }
}
