//! The name of a room. It becomes part of the name of a channel, of keys and of a path, so it has few characters.

use std::{fmt, sync::Arc};

const LONGEST: usize = 64;

/// The name of a room: 1 to 64 of `a-z`, `0-9`, `-` and `_`, a letter or digit first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Room(Arc<str>);

impl Room {
    /// The room of that name; nothing where no room can have it.
    pub fn parse(name: &str) -> Option<Self> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let first = name.bytes().next().is_some_and(plain);
        let rest = name.bytes().all(|b| plain(b) || b == b'-' || b == b'_');
        (first && rest && name.len() <= LONGEST).then(|| Self(name.into()))
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_rooms() {
        let longest = "a".repeat(64);
        for name in ["lobby", "a", "0", "team-1_x", &longest] {
            assert_eq!(Room::parse(name).unwrap().as_str(), name);
        }
        let longer = "a".repeat(65);
        for name in [
            "",
            "-a",
            "_a",
            "Lobby",
            "a b",
            "a:b",
            "a{b}",
            "a/b",
            "ä",
            "a'; DROP TABLE rooms;--",
            "a\0",
            &longer,
        ] {
            assert_eq!(Room::parse(name), None, "{name:?}");
        }
    }
}
