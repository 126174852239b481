//! What every task of a run shares: the board, the terminal, the guard, the tools of this machine. Holds no logic of
//! its own beyond finding tools.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use nix::unistd::{Gid, Uid, User};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::board::Board;
use super::guard::Guard;
use super::terminal::Terminal;
use crate::state::State;

/// What every task of a run shares.
#[derive(Debug)]
pub(crate) struct Context {
    /// How everything is.
    pub(crate) board: Board,
    /// What the user sees.
    pub(crate) terminal: Arc<Terminal>,
    /// Ends children when this process cannot.
    pub(crate) guard: Guard,
    /// The state folder.
    pub(crate) state: State,
    /// Programs of this machine.
    pub(crate) tools: Tools,
    /// Copy logs to the terminal too.
    pub(crate) tail: bool,
    /// How long a process has between SIGTERM and SIGKILL.
    pub(crate) drain: Duration,
    /// All tasks.
    pub(crate) tasks: TaskTracker,
    /// The whole run ends: no time for callers to hear of each instance.
    pub(crate) ending: CancellationToken,
    /// No more patience: SIGKILL.
    pub(crate) kill: CancellationToken,
}

/// Programs of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    /// Folders to look in: beside this program, then PATH.
    folders: Vec<PathBuf>,
    /// Starts a program as another user, and so that it ends with its parent (Linux).
    pub(crate) setpriv: Option<PathBuf>,
}

/// A user to run a process as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunAs {
    /// User id.
    pub(crate) uid: Uid,
    /// Group id.
    pub(crate) gid: Gid,
}

impl Tools {
    /// Looks beside this program, then on PATH.
    pub(crate) fn new(path: &str) -> Self {
        let beside = std::env::current_exe().ok().and_then(|exe| exe.parent().map(Path::to_owned));
        let folders = beside.into_iter().chain(std::env::split_paths(path)).collect();
        let mut tools = Self { folders, setpriv: None };
        tools.setpriv = if cfg!(target_os = "linux") { tools.find("setpriv") } else { None };
        tools
    }

    /// A program by name, or by path relative to `from`.
    pub(crate) fn find_from(&self, name: &str, from: &Path) -> Option<PathBuf> {
        if name.contains('/') {
            let path = from.join(name);
            return is_program(&path).then_some(path);
        }
        self.find(name)
    }

    /// A program by name.
    pub(crate) fn find(&self, name: &str) -> Option<PathBuf> {
        self.folders.iter().map(|folder| folder.join(name)).find(|path| is_program(path))
    }

    /// Whom to run a server as that refuses root: nobody else where this is not root.
    pub(crate) fn not_root(&self, preferred: &str) -> Result<Option<RunAs>> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        if self.setpriv.is_none() {
            bail!(
                "PostgreSQL refuses to run as root, and `setpriv` (package util-linux) is missing; run as another user"
            );
        }
        let user = [preferred, "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten());
        match user {
            Some(user) => Ok(Some(RunAs { uid: user.uid, gid: user.gid })),
            None => {
                bail!("PostgreSQL refuses to run as root, and there is no user `{preferred}` or `nobody`")
            }
        }
    }
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
