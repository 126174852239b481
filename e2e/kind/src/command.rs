//! Commands that users type: helm, kubectl, weft. They find the cluster by KUBECONFIG, as the tests do.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;
use tokio::time::timeout;

/// Longest time for one command.
const PATIENCE: Duration = Duration::from_mins(5);

/// What a command said.
#[derive(Clone, Debug)]
pub struct Said {
    /// Exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Said {
    /// Both outputs, for looking something up.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs a command, whatever it says.
pub async fn attempt<P: AsRef<OsStr>>(program: P, args: &[&str]) -> Result<Said> {
    let program = program.as_ref();
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let shown = format!("{} {}", program.display(), args.join(" "));
    let output = timeout(PATIENCE, command.output())
        .await
        .with_context(|| format!("not done within {PATIENCE:?}: {shown}"))?
        .with_context(|| format!("cannot run `{shown}`; is it on PATH?"))?;
    Ok(Said {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs a command that must succeed, and gives its standard output.
pub async fn run<P: AsRef<OsStr>>(program: P, args: &[&str]) -> Result<String> {
    let shown = format!("{} {}", program.as_ref().display(), args.join(" "));
    let said = attempt(program, args).await?;
    ensure!(said.code == Some(0), "`{shown}` failed with {:?}:\n{}", said.code, said.all());
    Ok(said.stdout)
}
