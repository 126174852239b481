//! How specific a match is: what sorts first is tried first.

use std::cmp::Reverse;

use crate::world::{Name, ObjectKind};

/// How a path is compared, the most specific last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathKind {
    /// Its first segments.
    #[default]
    Prefix,
    /// By a regular expression.
    Regex,
    /// As a whole.
    Exact,
}

/// How a path is compared, and its length.
pub type PathRank = (PathKind, usize);

/// How specific a match is by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MatchRank {
    path: Reverse<PathRank>,
    method: Reverse<bool>,
    headers: Reverse<usize>,
    query: Reverse<usize>,
}

impl MatchRank {
    /// A match with a path of that kind and length, maybe a method, and that many headers and query parameters.
    pub fn new(path: PathRank, method: bool, headers: usize, query: usize) -> Self {
        Self {
            path: Reverse(path),
            method: Reverse(method),
            headers: Reverse(headers),
            query: Reverse(query),
        }
    }
}

/// The place of a match among all on one listener or destination.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Whether the host has no wildcard, then its length.
    host: Reverse<(bool, usize)>,
    matched: MatchRank,
    created: i64,
    rule: (Name, ObjectKind, usize),
}

impl Rank {
    /// A match of the rule at that place, for that host (empty: all), of a route made at that time.
    pub fn new(host: &str, matched: MatchRank, created: i64, rule: (ObjectKind, Name, usize)) -> Self {
        let exact = !host.is_empty() && !host.starts_with('*');
        let (kind, name, at) = rule;
        Self { host: Reverse((exact, host.len())), matched, created, rule: (name, kind, at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(host: &str, matched: MatchRank) -> Rank {
        Rank::new(host, matched, 0, (ObjectKind::HttpRoute, Name::new("a", "b"), 0))
    }

    #[test]
    fn the_more_specific_comes_first() {
        let prefix = |length| MatchRank::new((PathKind::Prefix, length), false, 0, 0);
        let order = [
            rank("www.a.example", prefix(1)),
            rank("a.example", MatchRank::new((PathKind::Exact, 2), false, 0, 0)),
            rank("a.example", MatchRank::new((PathKind::Regex, 9), false, 0, 0)),
            rank("a.example", prefix(5)),
            rank("a.example", MatchRank::new((PathKind::Prefix, 4), true, 0, 0)),
            rank("a.example", MatchRank::new((PathKind::Prefix, 4), false, 2, 0)),
            rank("a.example", MatchRank::new((PathKind::Prefix, 4), false, 1, 3)),
            rank("a.example", MatchRank::new((PathKind::Prefix, 4), false, 1, 0)),
            rank("a.example", prefix(4)),
            rank("*.very.long.example", MatchRank::new((PathKind::Exact, 9), true, 9, 9)),
            rank("*.example", prefix(1)),
            rank("", MatchRank::new((PathKind::Exact, 9), true, 9, 9)),
        ];
        assert!(order.is_sorted(), "{order:#?}");
    }

    #[test]
    fn ties_go_to_the_oldest_then_by_name_then_by_rule() {
        let at = |created, name: &str, rule| {
            Rank::new("", MatchRank::default(), created, (ObjectKind::HttpRoute, Name::new("ns", name), rule))
        };
        assert!([at(1, "z", 5), at(2, "a", 1), at(2, "b", 0), at(2, "b", 1)].is_sorted());
    }
}
