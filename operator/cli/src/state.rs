//! The state folder of a run: where what is in it, who holds it, and how other commands find it. One run holds a folder
//! at a time. Runs are also noted in a folder of the user, so that `weft status` works from anywhere and two runs do
//! not take the same addresses.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use weft_api::names::GENERATED_FOLDER;

/// Name of the state folder in the directory that runs.
pub(crate) const FOLDER: &str = ".weft";

/// The state folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    root: PathBuf,
}

impl State {
    /// The folder, made where missing.
    pub(crate) fn create(root: &Path) -> Result<Self> {
        fs::create_dir_all(root.join("logs"))
            .and_then(|()| fs::create_dir_all(root.join(GENERATED_FOLDER)))
            .with_context(|| format!("cannot make the state folder {}", root.display()))?;
        let root = root.canonicalize().with_context(|| format!("cannot open {}", root.display()))?;
        Ok(Self { root })
    }

    /// The folder as it is.
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A file or folder in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The control socket.
    pub(crate) fn control(&self) -> PathBuf {
        self.path("control.sock")
    }

    /// The log of a process.
    pub(crate) fn log(&self, process: &str) -> PathBuf {
        self.root.join("logs").join(format!("{process}.log"))
    }

    /// Sixteen hex digits that stand for this folder.
    pub(crate) fn id(&self) -> String {
        hex(&Sha256::digest(self.root.as_os_str().as_encoded_bytes())).chars().take(16).collect()
    }

    /// Takes the folder for this process, until the returned file is closed. Tries for a moment, since a command that
    /// looks whether the folder is held holds it itself while it looks.
    pub(crate) async fn lock(&self) -> Result<File> {
        let path = self.path("lock");
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path)?;
        let mut tries = 10;
        while file.try_lock().is_err() {
            tries -= 1;
            if tries > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                continue;
            }
            let pid = fs::read_to_string(&path).unwrap_or_default();
            bail!(
                "the state folder {} is in use by another `weft run` (pid {}); stop that one with Ctrl-C or `kill {}`, \
                 or give this one another folder with --state",
                self.root.display(),
                pid.trim(),
                pid.trim()
            );
        }
        file.set_len(0)?;
        write!(file, "{}", std::process::id())?;
        Ok(file)
    }

    /// Whether a run holds the folder now.
    pub(crate) fn is_held(&self) -> bool {
        File::open(self.path("lock")).is_ok_and(|file| file.try_lock_shared().is_err())
    }
}

/// Writes a file whole: readers see the old or the new content, never a part.
pub(crate) fn write_whole(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let draft = path.with_extension(format!("draft-{}", std::process::id()));
    let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(&draft)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content)?;
    fs::rename(&draft, path)
}

/// A secret that is made once and kept in a file only its owner reads.
pub(crate) fn kept_secret(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Ok(secret) if !secret.trim().is_empty() => Ok(secret.trim().to_owned()),
        _ => {
            let secret = random_hex();
            write_whole(path, secret.as_bytes(), 0o600)?;
            Ok(secret)
        }
    }
}

/// 256 random bits in hex.
pub(crate) fn random_hex() -> String {
    hex(&rand::random::<[u8; 32]>())
}

/// SHA-256 of a text, lower-case hex.
pub(crate) fn sha256_hex(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        write!(out, "{byte:02x}").expect("a String takes every write");
        out
    })
}

/// The user's note of all runs.
#[derive(Clone, Debug)]
pub(crate) struct Runs {
    folder: PathBuf,
}

/// One noted run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunNote {
    /// Its state folder.
    pub(crate) state: PathBuf,
    /// When it was started, in seconds since the Unix epoch.
    pub(crate) started: i64,
    /// Addresses it uses.
    pub(crate) addresses: BTreeSet<IpAddr>,
}

impl Runs {
    /// The folder of the notes: `weft-run` in the user's runtime folder, else a folder of the user in /tmp.
    pub(crate) fn open(runtime: Option<&Path>) -> Result<Self> {
        let user = nix::unistd::geteuid().as_raw();
        let folder = match runtime.filter(|path| path.is_dir()) {
            Some(runtime) => runtime.join("weft-run"),
            None => PathBuf::from(format!("/tmp/weft-run-{user}")),
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let meta = fs::symlink_metadata(&folder)?;
        if !meta.is_dir() || meta.uid() != user {
            bail!("{} belongs to someone else; remove it or set XDG_RUNTIME_DIR", folder.display());
        }
        Ok(Self { folder })
    }

    /// Holds the notes while addresses are chosen.
    pub(crate) fn lock(&self) -> io::Result<File> {
        let file =
            OpenOptions::new().create(true).truncate(false).write(true).open(self.folder.join("lock"))?;
        file.lock()?;
        Ok(file)
    }

    /// Notes a run.
    pub(crate) fn note(&self, state: &State, note: &RunNote) -> Result<()> {
        let path = self.folder.join(format!("{}.json", state.id()));
        Ok(write_whole(&path, &serde_json::to_vec(note)?, 0o600)?)
    }

    /// Forgets a run.
    pub(crate) fn forget(&self, state: &State) {
        // A note that stays is harmless: nobody holds its folder.
        drop(fs::remove_file(self.folder.join(format!("{}.json", state.id()))));
    }

    /// Runs that are alive, newest first. Notes of dead ones, which were killed, are removed.
    pub(crate) fn alive(&self) -> Vec<RunNote> {
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let mut alive = Vec::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            let note = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<RunNote>(&text).ok());
            match note {
                Some(note) if State::at(&note.state).is_held() => alive.push(note),
                // Someone else may have removed it in this moment.
                Some(_) => drop(fs::remove_file(&path)),
                None => {}
            }
        }
        alive.sort_by_key(|note| std::cmp::Reverse(note.started));
        alive
    }
}

/// The run that a command means: the folder given, else `.weft` here, else the newest run of this user.
pub(crate) fn find(given: Option<&Path>, runtime: Option<&Path>) -> Result<State> {
    let here = Path::new(FOLDER);
    match given {
        Some(folder) => Ok(State::at(folder)),
        None => match find_alive(runtime)? {
            Some(state) => Ok(state),
            None if here.is_dir() => Ok(State::at(here)),
            None => bail!("nothing runs here; start it with `weft run DIR`, or name its folder with --state"),
        },
    }
}

/// The run that goes on in `.weft` here, else the newest one of this user.
pub(crate) fn find_alive(runtime: Option<&Path>) -> Result<Option<State>> {
    let here = State::at(Path::new(FOLDER));
    if here.is_held() {
        return Ok(Some(here));
    }
    Ok(Runs::open(runtime)?.alive().into_iter().next().map(|note| State::at(&note.state)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_is_held_by_one_run_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::create(&dir.path().join("s")).unwrap();
        assert!(!state.is_held());
        let held = state.lock().await.unwrap();
        assert!(state.is_held());
        let refusal = state.lock().await.unwrap_err().to_string();
        assert!(refusal.contains(&format!("pid {}", std::process::id())), "{refusal}");
        drop(held);
        assert!(!state.is_held());
        state.lock().await.unwrap();
    }

    #[tokio::test]
    async fn the_newest_live_run_is_found_and_a_dead_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let runs = Runs::open(Some(dir.path())).unwrap();
        let mut locks = Vec::new();
        for (name, started, alive) in [("old", 1, true), ("new", 2, true), ("dead", 3, false)] {
            let state = State::create(&dir.path().join(name)).unwrap();
            let note = RunNote { state: state.root().to_owned(), started, addresses: BTreeSet::new() };
            runs.note(&state, &note).unwrap();
            locks.push((alive, state.lock().await.unwrap()));
        }
        locks.retain(|(alive, _)| *alive);
        let names: Vec<i64> = runs.alive().iter().map(|note| note.started).collect();
        assert_eq!(names, [2, 1]);
    }

    #[test]
    fn a_secret_is_made_once_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let first = kept_secret(&path).unwrap();
        assert_eq!(first.len(), 64);
        assert_eq!(kept_secret(&path).unwrap(), first);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }
}
