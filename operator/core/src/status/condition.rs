//! Conditions: how they are made, and how they keep the time since when they hold.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use crate::validate::{Problem, Severity};
use crate::world::Invalid;

/// Most problems that a message tells in full.
const TOLD: usize = 3;

/// What a condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    status: &'static str,
    reason: String,
    message: String,
}

impl Verdict {
    /// It holds.
    pub fn yes(reason: &str, message: impl Into<String>) -> Self {
        Self { status: "True", reason: reason.to_owned(), message: message.into() }
    }

    /// It does not hold.
    pub fn no(reason: &str, message: impl Into<String>) -> Self {
        Self { status: "False", reason: reason.to_owned(), message: message.into() }
    }

    /// It cannot be told yet.
    pub fn unknown(reason: &str, message: impl Into<String>) -> Self {
        Self { status: "Unknown", reason: reason.to_owned(), message: message.into() }
    }

    /// Whether it holds.
    pub fn holds(&self) -> bool {
        self.status == "True"
    }
}

/// Makes conditions for one generation of an object.
#[derive(Clone, Copy, Debug)]
pub struct Conditions<'a> {
    /// What was said before, for the times.
    pub old: &'a [Condition],
    /// Generation that is judged.
    pub generation: i64,
    /// Seconds since the Unix epoch.
    pub now: i64,
}

impl Conditions<'_> {
    /// A condition; it keeps its time unless its status changed.
    pub fn make(&self, kind: &str, verdict: Verdict) -> Condition {
        let Verdict { status, reason, message } = verdict;
        let same = self.old.iter().find(|old| old.type_ == kind && old.status == status);
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason,
            message,
            observed_generation: Some(self.generation),
            last_transition_time: same.map_or_else(|| time(self.now), |old| old.last_transition_time.clone()),
        }
    }
}

/// A time of Kubernetes; what is beyond its range becomes the epoch.
pub fn time(unix: i64) -> Time {
    Time(Timestamp::from_second(unix).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// `Accepted` by what is wrong across objects: errors refuse, warnings are told.
pub fn accepted(problems: &[Problem]) -> Verdict {
    let of = |severity: Severity| problems.iter().filter(move |problem| problem.severity == severity);
    if of(Severity::Error).next().is_some() {
        return Verdict::no("Invalid", told(of(Severity::Error)));
    }
    Verdict::yes("Accepted", told(of(Severity::Warning)))
}

/// `Accepted` of an object whose newest form cannot be read.
pub fn refused(invalid: &Invalid, kept: bool) -> Verdict {
    let all: Vec<String> = invalid.violations.iter().map(ToString::to_string).collect();
    let rest = if kept { "the last good form stays in force" } else { "nothing of it is in force" };
    Verdict::no("Invalid", format!("{} ({rest})", some_of(all)))
}

/// Unknown fields as a condition, where there are any.
pub fn unknown_fields(fields: &[String]) -> Option<Verdict> {
    (!fields.is_empty())
        .then(|| Verdict::yes("UnknownFields", format!("not acted on: {}", fields.join(", "))))
}

fn told<'a>(problems: impl Iterator<Item = &'a Problem>) -> String {
    let one = |problem: &Problem| format!("{}: {}; {}", problem.field, problem.message, problem.remedy);
    some_of(problems.map(one).collect())
}

fn some_of(mut all: Vec<String>) -> String {
    let more = all.len().checked_sub(TOLD).filter(|more| *more > 0);
    all.truncate(TOLD);
    all.extend(more.map(|more| format!("and {more} more")));
    all.join(" | ")
}
