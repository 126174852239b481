//! A directory to run, a supervisor that runs it with stand-ins for operator, proxy and services, and ways to wait for
//! what it does. Everything it starts carries a mark in its environment, so that a test can see what is left.

#![allow(dead_code, reason = "not every test file uses everything")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    unreachable_pub,
    reason = "test code"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// Nothing here takes this long on a machine that works.
const PATIENCE: Duration = Duration::from_mins(1);

/// A directory with manifests, a state folder and a mark.
pub struct Fixture {
    dir: tempfile::TempDir,
    mark: String,
}

/// A running `weft run`.
pub struct Run {
    pub child: tokio::process::Child,
    out: PathBuf,
}

/// The weft command.
pub fn weft() -> Command {
    Command::new(env!("CARGO_BIN_EXE_weft"))
}

/// The stand-in. Cargo builds examples before it runs all tests of a package, but not before a chosen one.
pub fn stub() -> PathBuf {
    static BUILT: std::sync::Once = std::sync::Once::new();
    let stub = Path::new(env!("CARGO_BIN_EXE_weft")).with_file_name("examples").join("stub");
    BUILT.call_once(|| {
        if !stub.is_file() {
            let build =
                Command::new(env!("CARGO")).args(["build", "-p", "weft", "--example", "stub"]).status();
            assert!(build.unwrap().success() && stub.is_file(), "{} cannot be built", stub.display());
        }
    });
    stub
}

/// A Microservice with one HTTP port.
pub fn microservice(name: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1alpha1\nkind: Microservice\nmetadata: {{name: {name}}}\nspec:\n  ports:\n  \
         - {{name: http, port: 80, targetPort: 8080, protocol: HTTP}}\n"
    )
}

/// An entry of weft.yaml that runs the stand-in under a shell, as a service with a child of its own.
pub fn entry(name: &str) -> String {
    let stub = stub();
    format!(
        "  {name}:\n    command: [sh, -c, \"{} --listen ${{address}}:${{port.http}} & wait\"]\n",
        stub.display()
    )
}

impl Fixture {
    /// A directory that runs these services.
    pub fn new(services: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().file_name().unwrap().to_string_lossy().into_owned();
        let fixture = Self { dir, mark };
        std::fs::create_dir(fixture.path("shop")).unwrap();
        fixture.write_services(services);
        fixture
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path("shop").join(name), text).unwrap();
    }

    /// Manifests and entries for these services.
    pub fn write_services(&self, services: &[&str]) {
        let mut weft_yaml = "services:\n".to_owned();
        for name in services {
            self.write(&format!("{name}.yaml"), &microservice(name));
            weft_yaml.push_str(&entry(name));
        }
        self.write("weft.yaml", &weft_yaml);
    }

    /// Starts `weft run` and returns at once.
    pub fn start(&self, more: &[&str]) -> Run {
        let out = self.path("out.log");
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&out).unwrap();
        let mut command = weft();
        command
            .arg("run")
            .arg(self.path("shop"))
            .args(["--drain", "3"])
            .args(more)
            .env("WEFT_OPERATOR_PROGRAM", stub())
            .env("WEFT_PROXY_PROGRAM", stub())
            // All runs of this user know of each other, or they would take each other's addresses.
            .env_remove("XDG_RUNTIME_DIR")
            .env("WEFT_TEST_MARK", &self.mark)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        let child = tokio::process::Command::from(command).kill_on_drop(true).spawn().unwrap();
        Run { child, out }
    }

    /// Starts `weft run` and waits until it says that it is ready.
    pub async fn run(&self) -> Run {
        let run = self.start(&[]);
        self.until("ready", || run.output().contains("ready in ").then_some(())).await;
        run
    }

    /// Runs another command of weft against the run.
    pub async fn ask(&self, args: &[&str]) -> (bool, String) {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_weft"));
        command.args(args).env("WEFT_STATE", self.path("shop/.weft"));
        let output = command.output().await.unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    }

    /// The status of one unit, in JSON; null where there is none.
    pub async fn unit(&self, name: &str) -> Value {
        let status = self.status().await;
        let units = status["run"]["units"].as_array().cloned().unwrap_or_default();
        units.into_iter().find(|unit| unit["name"] == name).unwrap_or_default()
    }

    /// The whole status, in JSON.
    pub async fn status(&self) -> Value {
        let (_, text) = self.ask(&["status", "--json"]).await;
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Waits for a unit to be as asked.
    pub async fn until_unit(&self, what: &str, name: &str, so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let unit = self.unit(name).await;
            if so(&unit) {
                return unit;
            }
            self.give_up(deadline, &format!("{what}; {name} is {unit}"));
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits for something to be there.
    pub async fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            self.give_up(deadline, what);
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn give_up(&self, deadline: Instant, what: &str) {
        let out = || std::fs::read_to_string(self.path("out.log")).unwrap_or_default();
        assert!(Instant::now() < deadline, "waited for: {what}\n--- output of weft run:\n{}", out());
    }

    pub fn instances(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("shop/.weft/instances.json")).unwrap_or_default();
        let all: Value = serde_json::from_str(&text).unwrap_or_default();
        all["instances"].as_array().cloned().unwrap_or_default()
    }

    /// Processes that carry the mark of this fixture, the supervisor among them.
    pub fn processes(&self) -> Vec<i32> {
        let wanted = format!("WEFT_TEST_MARK={}", self.mark);
        let marked = |pid: &i32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
        };
        let folders = std::fs::read_dir("/proc").unwrap().flatten();
        folders.filter_map(|folder| folder.file_name().to_str()?.parse().ok()).filter(marked).collect()
    }

    /// Waits until nothing with the mark is left.
    pub async fn until_nothing_is_left(&self) {
        self.until("the end of all processes", || self.processes().is_empty().then_some(())).await;
    }
}

impl Run {
    /// What it has written so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap_or_default()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().unwrap().cast_signed()), signal).unwrap();
    }

    /// Waits for it to fail, and returns all that was written.
    pub async fn ended_with_output(mut self, fixture: &Fixture) -> String {
        let end = self.ended().await;
        assert!(!end.success(), "{}", self.output());
        std::fs::read_to_string(fixture.path("out.log")).unwrap()
    }

    /// Waits for it to end.
    pub async fn ended(&mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.expect("weft run ends").unwrap()
    }
}

/// The process id in a part of a unit's status.
pub fn pid(unit: &Value, part: &str) -> i64 {
    unit[part]["pid"].as_i64().unwrap_or_default()
}
