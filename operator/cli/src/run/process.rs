//! One child process: started, kept alive with backoff, stopped with patience. It runs in a process group of its own,
//! so that what it starts ends with it, and is told to the guard. Its output goes to its log. What it is good for, and
//! whether it is healthy, is known elsewhere (unit.rs, health.rs).

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::board::Part;
use super::clock::unix_now;
use super::context::{Context, RunAs};
use super::logfile::{self, LogFile};

/// How often it is looked whether what a process left behind is gone.
const LOOK: Duration = Duration::from_millis(50);
/// How long that may take before it is killed.
const LEFTOVERS: Duration = Duration::from_secs(5);

/// What to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProcessSpec {
    /// Name of its log: `order-0`, `order-0.proxy`.
    pub(crate) name: String,
    /// The program.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) args: Vec<String>,
    /// Environment on top of this process's own.
    pub(crate) env: Vec<(String, String)>,
    /// Where it runs.
    pub(crate) directory: PathBuf,
    /// As whom, where not as this process.
    pub(crate) user: Option<RunAs>,
    /// How it is asked to end.
    pub(crate) stop: StopBy,
}

/// How a process is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopBy {
    /// SIGTERM to it and to all it started.
    Group,
    /// SIGINT to it alone: it ends its children itself (PostgreSQL's fast shutdown).
    Leader,
}

impl StopBy {
    fn signal(self) -> Signal {
        match self {
            Self::Group => Signal::SIGTERM,
            Self::Leader => Signal::SIGINT,
        }
    }
}

/// Runs a process until `stop`, starting it again whenever it dies.
pub(crate) async fn keep(cx: &Arc<Context>, part: &Part, spec: &ProcessSpec, stop: &CancellationToken) {
    let mut backoff = Backoff::default();
    while !stop.is_cancelled() {
        let born = Instant::now();
        let end = match Running::start(cx, spec) {
            Ok(mut running) => {
                cx.board.started(part, running.group.as_raw().cast_unsigned(), unix_now());
                tokio::select! {
                    end = running.end() => {
                        running.sweep(LEFTOVERS).await;
                        end
                    }
                    () = stop.cancelled() => {
                        running.stop().await;
                        break;
                    }
                }
            }
            Err(error) => format!("cannot be started: {error}"),
        };
        let wait = backoff.after(born.elapsed());
        cx.board.died(part, &end);
        let (name, seconds) = (&spec.name, wait.as_secs_f64());
        cx.terminal
            .say(&format!("{name} {end}; starting it again in {seconds} s (see: weft logs {})", part.unit));
        tokio::select! {
            () = stop.cancelled() => break,
            () = sleep(wait) => {}
        }
    }
    cx.board.stopped(part);
}

struct Running<'a> {
    cx: &'a Context,
    child: Child,
    group: Pid,
    stop: StopBy,
}

impl<'a> Running<'a> {
    fn start(cx: &'a Arc<Context>, spec: &ProcessSpec) -> io::Result<Self> {
        let log = LogFile::open(&cx.state.log(&spec.name))?;
        let mut child = command(cx, spec).spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let group = Pid::from_raw(id.expect("a child that was not waited for has an id"));
        cx.guard.watch(group);
        let tail = || cx.tail.then(|| (Arc::clone(&cx.terminal), spec.name.clone()));
        if let Some(out) = child.stdout.take() {
            cx.tasks.spawn(logfile::pump(out, log.clone(), tail()));
        }
        if let Some(err) = child.stderr.take() {
            cx.tasks.spawn(logfile::pump(err, log, tail()));
        }
        Ok(Self { cx, child, group, stop: spec.stop })
    }

    /// Waits for it to end by itself.
    async fn end(&mut self) -> String {
        self.child.wait().await.map_or_else(|error| format!("was lost: {error}"), describe)
    }

    /// Asks it to end, waits, and kills what does not.
    async fn stop(mut self) {
        let begin = Instant::now();
        let signal = self.stop.signal();
        // It may have ended in this moment, and then there is nobody to ask.
        let asked = match self.stop {
            StopBy::Group => killpg(self.group, signal),
            StopBy::Leader => kill(self.group, signal),
        };
        asked.ok();
        let kill_now = self.cx.kill.clone();
        tokio::select! {
            _ = timeout(self.cx.drain, self.child.wait()) => {}
            () = kill_now.cancelled() => {}
        }
        let left = self.cx.drain.saturating_sub(begin.elapsed()).min(LEFTOVERS);
        self.sweep(left).await;
    }

    /// Waits for what it started to end too, and kills what does not.
    async fn sweep(&mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while killpg(self.group, None).is_ok() && Instant::now() < deadline && !self.cx.kill.is_cancelled() {
            sleep(LOOK).await;
        }
        // Fails where everybody is gone, as it should be.
        killpg(self.group, Signal::SIGKILL).ok();
        drop(self.child.wait().await);
        self.cx.guard.forget(self.group);
    }
}

fn command(cx: &Context, spec: &ProcessSpec) -> Command {
    let mut command = match &cx.tools.setpriv {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.arg("--pdeathsig").arg(spec.stop.signal().as_str().trim_start_matches("SIG"));
            if let Some(user) = spec.user {
                command
                    .arg(format!("--reuid={}", user.uid))
                    .arg(format!("--regid={}", user.gid))
                    .arg("--clear-groups");
            }
            command.arg("--").arg(&spec.program);
            command
        }
        None => Command::new(&spec.program),
    };
    command
        .args(&spec.args)
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&spec.directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    command
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(0), _) => "ended by itself".to_owned(),
        (Some(code), _) => format!("ended with code {code}"),
        (None, Some(number)) => {
            let name =
                Signal::try_from(number).map_or_else(|_| number.to_string(), |signal| signal.to_string());
            format!("was ended by {name}")
        }
        (None, None) => "ended".to_owned(),
    }
}
