//! Every fuzz target for a moment: first its corpus, then mutations of it. Seeded by the target's name, so that what fails
//! here fails again. Finding more is `cargo fuzz`'s, with coverage and time (`e2e/fuzz`).
#![expect(clippy::unwrap_used, reason = "test code")]

#[expect(unreachable_pub, clippy::panic, reason = "the library of e2e/fuzz, where a target panics to report")]
#[path = "../fuzz/src"]
mod fuzz {
    pub mod targets;
}

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use fuzz::targets;

/// Mutations of each target, and how long they may take: half a minute of one core would be noticed, and no target needs
/// it.
const MUTATIONS: u32 = 20_000;
const AT_MOST: Duration = Duration::from_secs(1);
/// What parsers look out for.
const TOKENS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\0",
    b"\xff",
    b" ",
    b":",
    b"/",
    b"..",
    b"%2e",
    b"%00",
    b"%",
    b"?",
    b",",
    b";",
    b"=",
    b".",
    b"-",
    b"0",
    b"-1",
    b"18446744073709551616",
    b"\r\n\r\n",
    b"chunked",
    b"{",
    b"\"",
    b"\xc3\xa9",
    b"- ",
    b"&a",
    b"*a",
];

#[test]
fn every_target_survives_its_corpus_and_mutations_of_it() {
    std::thread::scope(|scope| {
        let (left, right) = targets::ALL.split_at(targets::ALL.len() / 2);
        for half in [left, right] {
            scope.spawn(|| try_all(half));
        }
    });
}

#[test]
fn every_target_is_one_of_cargo_fuzz_and_has_seeds() {
    let names = |folder: &str| -> BTreeSet<String> {
        let stem = |entry: fs::DirEntry| entry.path().file_stem().unwrap().to_str().unwrap().to_owned();
        fs::read_dir(folder_of(folder)).unwrap().map(|entry| stem(entry.unwrap())).collect()
    };
    let all: BTreeSet<String> = targets::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("fuzz_targets"), all);
    assert_eq!(names("corpus"), all);
    let manifest = fs::read_to_string(folder_of("Cargo.toml")).unwrap();
    for name in all {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is no binary of e2e/fuzz");
    }
}

fn folder_of(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

fn try_all(targets: &[(&str, targets::Target)]) {
    for (name, target) in targets {
        try_out(name, *target);
    }
}

fn try_out(name: &str, target: targets::Target) {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder_of("corpus").join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let seeds: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    for seed in &seeds {
        run(name, target, seed);
    }
    let mut random = Random(name.bytes().fold(0, |sum, byte| sum * 31 % (1 << 48) + u64::from(byte)));
    let until = Instant::now() + AT_MOST;
    for _ in 0..MUTATIONS {
        run(name, target, &random.mutation(&seeds));
        if Instant::now() > until {
            break;
        }
    }
}

fn run(name: &str, target: targets::Target, data: &[u8]) {
    let survived = catch_unwind(AssertUnwindSafe(|| target(data))).is_ok();
    assert!(
        survived,
        "{name} does not survive this (put it into e2e/fuzz/corpus/{name}):\n\"{}\"",
        data.escape_ascii()
    );
}

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`; 0 where there is nothing below it.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap()
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// A seed with a few changes.
    fn mutation(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut data = self.pick(seeds).clone();
        for _ in 0..=self.below(6) {
            self.change(&mut data, seeds);
        }
        data.truncate(4096);
        data
    }

    fn change(&mut self, data: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(data.len() + 1);
        let to = at + self.below((data.len() - at).min(16) + 1);
        match self.below(8) {
            0 if at < data.len() => data[at] ^= 1 << self.below(8),
            1 if at < data.len() => data[at] = self.next().to_be_bytes()[0],
            2 => drop(data.drain(at..to)),
            3 => data.truncate(at),
            4 => drop(data.splice(at..at, self.pick(TOKENS).iter().copied())),
            5 => {
                let piece = data[at..to].repeat(1 + self.below(8));
                drop(data.splice(at..at, piece));
            }
            6 => {
                let other = self.pick(seeds);
                let from = self.below(other.len() + 1);
                drop(data.splice(at..to, other[from..].iter().copied()));
            }
            _ => drop(data.splice(at..at, [self.next().to_be_bytes()[0]])),
        }
    }
}
