//! Sees that a file of the directory changed, by looking: a few small files twice a second cost nothing and work on
//! every file system. Files that belong together are given time to be written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::project::yaml_files;

/// How often it looks.
const EVERY: Duration = Duration::from_millis(500);

/// What tells one content of the directory from another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen(BTreeMap<PathBuf, (u64, Option<SystemTime>)>);

impl Seen {
    /// The directory as it is now; nothing while it cannot be read, as in the moment of a checkout.
    pub(crate) fn now(directory: &Path) -> Option<Self> {
        let files = yaml_files(directory).ok()?;
        let mark = |path: PathBuf| {
            let meta = path.metadata().ok()?;
            Some((path, (meta.len(), meta.modified().ok())))
        };
        Some(Self(files.into_iter().filter_map(mark).collect()))
    }
}

/// Returns when the directory differs from `seen` and has been quiet for one look.
pub(crate) async fn changed(directory: &Path, seen: &mut Seen) {
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(mut now) = Seen::now(directory).filter(|now| now != seen) else { continue };
        loop {
            tokio::time::sleep(EVERY).await;
            let again = Seen::now(directory);
            if again.as_ref() == Some(&now) {
                break;
            }
            now = again.unwrap_or(now);
        }
        *seen = now;
        return;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yaml_files_of_the_directory_itself_count() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        write("a.yaml", "1");
        let first = Seen::now(dir.path()).unwrap();
        write("notes.txt", "1");
        write("sub/b.yaml", "1");
        write(".hidden.yaml", "1");
        assert_eq!(Seen::now(dir.path()).unwrap(), first);
        write("a.yaml", "12");
        assert_ne!(Seen::now(dir.path()).unwrap(), first);
    }

    #[tokio::test]
    async fn a_change_is_seen_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut seen = Seen::now(dir.path()).unwrap();
        std::fs::write(dir.path().join("a.yml"), "1").unwrap();
        changed(dir.path(), &mut seen).await;
        assert_eq!(Seen::now(dir.path()), Some(seen));
    }
}
