//! What the facts mean: one line per check, in the order of reading. Pure; the time is an argument.

mod before;
mod mesh;
mod operator;

use crate::cluster::check::facts::{Facts, Installed};
use crate::cluster::check::report::{Line, Section};

/// Judges everything.
pub(crate) fn all(facts: &Facts, now: i64) -> Vec<Line> {
    let mut lines = before::kubernetes(facts);
    lines.extend(before::installation(facts));
    match &facts.operator {
        Ok(Installed::No(_)) => {}
        Ok(Installed::Yes(found)) => {
            lines.extend(operator::replicas(found, now));
            lines.extend(operator::webhooks(facts, found));
            lines.extend(mesh::identity(facts, found, now));
            lines.extend(mesh::namespaces(facts));
            lines.extend(mesh::proxies(found));
        }
        Err(why) => {
            let mut section = Section::new("operator");
            section.unseen("the operator", why);
            lines.extend(section.lines());
        }
    }
    lines
}

/// `a, b, c and 4 more`.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let first = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// `1 pod`, `2 pods`.
fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests;
