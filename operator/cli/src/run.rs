//! `weft run DIR`: the supervisor. It reads the directory, takes the state folder, starts everything in order, says when
//! it is ready, follows changes of the files, and on Ctrl-C takes everything down. The steps are here in their order;
//! each is a file in run/.

mod assembly;
mod backoff;
mod board;
mod certificate;
pub(crate) mod clock;
mod context;
mod control;
mod fleet;
pub(crate) mod guard;
mod health;
pub(crate) mod logfile;
mod plan;
mod postgres;
mod process;
pub(crate) mod project;
mod ready;
mod redis;
mod registry;
mod settled;
mod specs;
mod template;
pub(crate) mod terminal;
mod unit;
mod watch;
mod weft_yaml;
pub(crate) mod yaml_node;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::assembly::Assembly;
use self::board::Board;
use self::clock::unix_now;
use self::context::{Context, Tools};
use self::fleet::Fleet;
use self::guard::Guard;
use self::project::{Loaded, Project};
use self::specs::OPERATOR;
use self::terminal::{Terminal, print_line};
use self::watch::Seen;
use crate::api::{Kind, RunStatus};
use crate::settings::RunArgs;
use crate::state::{FOLDER, Runs, State};

/// Beyond the time to drain, until everything is killed.
const LAST_PATIENCE: Duration = Duration::from_secs(10);

/// A run, as its control socket sees it.
#[derive(Debug)]
pub(crate) struct Run {
    cx: Arc<Context>,
    fleet: Arc<Fleet>,
    directory: PathBuf,
    started: i64,
    problems: Mutex<Vec<String>>,
}

/// Runs a directory until a signal ends it.
pub(crate) async fn run(args: RunArgs) -> Result<ExitCode> {
    let began = Instant::now();
    let seen = Seen::now(&args.directory).unwrap_or_default();
    let loaded = project::load(&args.directory);
    loaded.findings.lines().iter().for_each(|line| print_line(line));
    if !loaded.findings.errors.is_empty() {
        print_line("nothing was started; correct the errors above and run again");
        return Ok(ExitCode::FAILURE);
    }
    let mut signals = Signals::new()?;
    let state = State::create(&args.state.clone().unwrap_or_else(|| args.directory.join(FOLDER)))?;
    let _held = state.lock().await?;
    wait_for_an_earlier_guard(&state).await?;
    let runs = Runs::open(args.runtime.as_deref())?;
    let run = Arc::new(new_run(&args, state)?);
    let registry = run.cx.tasks.spawn(registry::run(Arc::clone(&run.cx)));
    let result = tokio::select! {
        biased;
        () = signals.next() => Ok(()),
        result = supervise(&run, &args, &runs, Start { loaded, seen, began }) => result,
    };
    // Said before everything is taken down, where people look first.
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            run.cx.terminal.settle();
            run.cx.terminal.say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    };
    end(&run, signals).await;
    registry.abort();
    run.cx.guard.end();
    runs.forget(&run.cx.state);
    Ok(code)
}

/// What a run begins with.
struct Start {
    loaded: Loaded,
    seen: Seen,
    began: Instant,
}

fn new_run(args: &RunArgs, state: State) -> Result<Run> {
    let guard = Guard::start(&state.path("guard.lock")).context("cannot start the guard process")?;
    let cx = Arc::new(Context {
        board: Board::new(),
        terminal: Arc::new(Terminal::new()),
        guard,
        state,
        tools: Tools::new(&args.path),
        tail: args.logs,
        drain: Duration::from_secs(args.drain),
        tasks: TaskTracker::new(),
        ending: CancellationToken::new(),
        kill: CancellationToken::new(),
    });
    let fleet = Arc::new(Fleet::new(Arc::clone(&cx)));
    let directory = args.directory.canonicalize().unwrap_or_else(|_| args.directory.clone());
    Ok(Run { cx, fleet, directory, started: unix_now(), problems: Mutex::default() })
}

/// The children of a run that was killed may still be on their way out, with their ports and files.
async fn wait_for_an_earlier_guard(state: &State) -> Result<()> {
    let lock = state.path("guard.lock");
    if fs::File::open(&lock).is_ok_and(|file| file.try_lock().is_err()) {
        print_line("waiting for the processes of the run before, which was killed, to end");
    }
    tokio::task::spawn_blocking(move || guard::hold(&lock)).await?.context("cannot lock guard.lock")?;
    Ok(())
}

/// Starts everything, then follows the files until dropped.
async fn supervise(run: &Arc<Run>, args: &RunArgs, runs: &Runs, start: Start) -> Result<()> {
    let Start { loaded, mut seen, began } = start;
    let listener = control::bind(run).context("cannot open the control socket")?;
    let ending = run.cx.ending.clone();
    let serving = control::serve(Arc::clone(run), listener);
    run.cx.tasks.spawn(async move { ending.run_until_cancelled(serving).await });
    let mut assembly = Assembly::new(args, &run.cx, &run.fleet, runs.clone())?;
    let changes = assembly.apply(&loaded.project).await?;
    let welcome = ready::Welcome::new(&assembly, began, changes.added);
    let announced = ready::announce(Arc::clone(run), welcome);
    let ending = run.cx.ending.clone();
    run.cx.tasks.spawn(async move { ending.run_until_cancelled(announced).await });
    let mut current = loaded.project;
    loop {
        watch::changed(&args.directory, &mut seen).await;
        reload(run, &mut assembly, &mut current).await;
    }
}

/// Takes over what changed in the files; what is wrong with them is said, and the last good state goes on.
async fn reload(run: &Run, assembly: &mut Assembly, current: &mut Project) {
    let say = |line: &str| run.cx.terminal.say(line);
    let loaded = project::load(&run.directory);
    loaded.findings.lines().iter().for_each(|line| say(line));
    let mut problems: Vec<String> = loaded.findings.errors.iter().map(ToString::to_string).collect();
    if !problems.is_empty() {
        say("the files changed and are refused; everything goes on as before");
    } else if loaded.project == *current {
        say(&format!("the files changed: {} objects, all good", loaded.objects));
    } else {
        match assembly.apply(&loaded.project).await {
            Ok(changes) => {
                say(&summary(&changes));
                *current = loaded.project;
            }
            Err(error) => {
                let problem = format!("{error:#}");
                say(&format!("the files changed, and cannot be taken over: {problem}"));
                problems.push(problem);
            }
        }
    }
    *run.problems.lock().unwrap_or_else(PoisonError::into_inner) = problems;
}

fn summary(changes: &fleet::Changes) -> String {
    let parts =
        [("starting", &changes.added), ("changing", &changes.changed), ("stopping", &changes.removed)];
    let told: Vec<String> = parts
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(what, names)| format!("{what} {}", names.join(", ")))
        .collect();
    if told.is_empty() {
        "the files changed; nothing to restart".into()
    } else {
        format!("the files changed: {}", told.join("; "))
    }
}

/// Takes everything down. A second signal, or too much time, kills what is left.
async fn end(run: &Run, mut signals: Signals) {
    let cx = &run.cx;
    cx.terminal.settle();
    cx.terminal.say("stopping everything (once more to kill)");
    cx.ending.cancel();
    for name in ["ready.json", "control.sock"] {
        // Not there yet when the run ends early.
        drop(fs::remove_file(cx.state.path(name)));
    }
    let (kill, patience) = (cx.kill.clone(), cx.drain + LAST_PATIENCE);
    let impatience = cx.tasks.spawn(async move {
        tokio::select! {
            () = signals.next() => {}
            () = tokio::time::sleep(patience) => {}
        }
        kill.cancel();
    });
    run.fleet.end().await;
    impatience.abort();
    cx.terminal.say("everything has ended");
}

impl Run {
    /// How the run is.
    fn status(&self) -> RunStatus {
        let units = self.cx.board.status();
        let operator = units.iter().find(|unit| unit.name == OPERATOR);
        let operator_admin = operator.and_then(|_| self.cx.board.socket(OPERATOR, "admin"));
        let up = units.iter().any(|unit| unit.kind == Kind::Operator);
        RunStatus {
            directory: self.directory.clone(),
            state: self.cx.state.root().to_owned(),
            pid: std::process::id(),
            started: self.started,
            ready: up && self.cx.board.all_ready(),
            operator_admin,
            units,
            problems: self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// The directory that runs.
    fn directory(&self) -> &Path {
        &self.directory
    }
}

/// SIGINT, SIGTERM and SIGHUP: all mean the end.
struct Signals {
    all: [Signal; 3],
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let all = [
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ];
        Ok(Self { all })
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.all;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
