//! What all who buy have in common: when they come, what they want most, and the key under which each asks once.

use clap::Args;
use uuid::Uuid;

use crate::arrivals::{Random, Zipf};
use crate::{Timing, positive};

/// How customers come, and how they choose.
#[derive(Clone, Debug, Args)]
pub(crate) struct Crowd {
    #[command(flatten)]
    pub(crate) timing: Timing,
    /// How much more the first things are wanted than the others: the exponent of Zipf's law, 0 for all alike
    #[arg(long, default_value = "1", value_parser = positive, value_name = "S")]
    zipf: f64,
    /// What they pay with: `tok_ok`, or another token of the simulated provider: `tok_declined`, `tok_flaky`, …
    #[arg(long, default_value = "tok_ok", value_name = "TOKEN")]
    pub(crate) method: String,
}

/// What chance decides for one customer after the other.
pub(crate) struct Choices {
    run: Uuid,
    number: u64,
    random: Random,
    wanted: Zipf,
}

impl Crowd {
    /// Chance that begins with that seed, for a choice between so many things.
    pub(crate) fn choices(&self, things: usize, seed: u64) -> Choices {
        Choices {
            run: Uuid::new_v4(),
            number: 0,
            random: Random::new(seed),
            wanted: Zipf::new(things, self.zipf),
        }
    }
}

impl Choices {
    /// The idempotency key of the next request.
    pub(crate) fn key(&mut self) -> String {
        self.number += 1;
        format!("{}-{}", self.run, self.number)
    }

    /// At least 0 and below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        self.random.unit()
    }

    /// One of these, each as likely as the others.
    pub(crate) fn any<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.random.below(of.len())]
    }

    /// One of the things, the first most often.
    pub(crate) fn wanted<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[self.wanted.pick(&mut self.random)]
    }
}
