//! The guard: a second process that outlives a killed supervisor for a moment and takes its children down. The
//! supervisor tells it every process group that it starts and ends, through a pipe; when the pipe closes, whatever is
//! left is ended: SIGTERM, ten seconds, SIGKILL. It also holds `guard.lock`, for which the next run waits.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How long groups have between SIGTERM and SIGKILL when the supervisor is gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether they are gone.
const LOOK: Duration = Duration::from_millis(100);

/// The supervisor's end of the pipe.
#[derive(Debug)]
pub(crate) struct Guard {
    pipe: Mutex<Option<ChildStdin>>,
    child: Mutex<Child>,
}

impl Guard {
    /// Starts the guard: this very program, in a process group of its own so that Ctrl-C does not reach it.
    pub(crate) fn start(lock: &Path) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("guard")
            .arg(lock)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let pipe = Mutex::new(child.stdin.take());
        Ok(Self { pipe, child: Mutex::new(child) })
    }

    /// A group was started.
    pub(crate) fn watch(&self, group: Pid) {
        self.tell(&format!("+{group}\n"));
    }

    /// A group is gone.
    pub(crate) fn forget(&self, group: Pid) {
        self.tell(&format!("-{group}\n"));
    }

    /// Closes the pipe and waits for the guard to end.
    pub(crate) fn end(&self) {
        drop(self.pipe.lock().unwrap_or_else(PoisonError::into_inner).take());
        drop(self.child.lock().unwrap_or_else(PoisonError::into_inner).wait());
    }

    fn tell(&self, line: &str) {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipe) = pipe.as_mut() {
            // A guard that someone killed cannot be told anything; the run goes on without it.
            drop(pipe.write_all(line.as_bytes()));
        }
    }
}

/// `weft guard`: follows the pipe, and ends what is left when it closes.
pub(crate) fn run(lock: &Path) -> anyhow::Result<()> {
    let _held = hold(lock)?;
    let mut groups = BTreeSet::new();
    for line in io::stdin().lock().lines() {
        let line = line?;
        let Some((sign, number)) = line.split_at_checked(1) else { continue };
        let Ok(group) = number.parse::<i32>() else { continue };
        match sign {
            "+" => groups.insert(group),
            _ => groups.remove(&group),
        };
    }
    end_all(groups.into_iter().filter(|group| *group > 1).map(Pid::from_raw).collect());
    Ok(())
}

/// Waits until no guard of an earlier run is at work.
pub(crate) fn hold(lock: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(lock)?;
    file.lock()?;
    Ok(file)
}

fn end_all(mut groups: Vec<Pid>) {
    groups.retain(|group| killpg(*group, Signal::SIGTERM).is_ok());
    let mut waited = Duration::ZERO;
    while !groups.is_empty() && waited < PATIENCE {
        pause();
        waited += LOOK;
        groups.retain(|group| killpg(*group, None).is_ok());
    }
    for group in groups {
        // What ended by itself in this moment needs no signal.
        killpg(group, Signal::SIGKILL).ok();
    }
}

#[expect(clippy::disallowed_methods, reason = "this process has one thread and nothing else to do")]
fn pause() {
    std::thread::sleep(LOOK);
}
