//! "Did you mean": how the command ends a message about a word that it does not know. Stands beside every parser of the
//! command; knows nothing of what the words are.

use weft_crds::nearest::nearest;

/// `; did you mean `x`?` or nothing, to end a message with.
pub(crate) fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map(|found| format!("; did you mean `{found}`?")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_a_stranger_finds_none() {
        let known = ["command", "instances", "env"];
        assert_eq!(hint("comand", known), "; did you mean `command`?");
        assert_eq!(hint("instnaces", known), "; did you mean `instances`?");
        assert_eq!(hint("evn", known), "; did you mean `env`?");
        assert_eq!(hint("replicas", known), "");
    }
}
