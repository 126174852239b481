//! The word that someone probably meant.
//!
//! Used for unknown fields, kinds, values and names; nothing is guessed where nothing is near.

/// The candidate nearest to `word`, if it is near enough to be meant: at most a third of its letters differ.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let rank = |candidate: &'a str| (distance(&lower, &candidate.to_lowercase()), candidate);
    let (distance, found) = candidates.into_iter().map(rank).min()?;
    let allowed = (found.chars().count() / 3).max(1);
    (distance <= allowed).then_some(found)
}

/// Letters to insert, remove, replace or swap with a neighbour until `a` is `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // A word from a hostile file may be long; beyond this nothing is near anyway.
    if a.len().abs_diff(b.len()) > 16 {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, &y) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(x != y);
            let mut best = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            let swapped = i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y;
            if swapped {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let fields = ["protocol", "port", "targetPort", "name"];
        assert_eq!(nearest("protcol", fields), Some("protocol"));
        assert_eq!(nearest("prot", fields), Some("port"));
        assert_eq!(nearest("target_port", fields), Some("targetPort"));
        assert_eq!(nearest("TargetPort", fields), Some("targetPort"));
        assert_eq!(nearest("nmae", fields), Some("name"));
    }

    #[test]
    fn guesses_nothing_where_nothing_is_near() {
        assert_eq!(nearest("replicas", ["protocol", "port", "name"]), None);
        assert_eq!(nearest("x", []), None);
        assert_eq!(nearest("", ["port"]), None);
    }
}
