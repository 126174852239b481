//! A private PostgreSQL in the state folder: found on this machine, initialised once, on loopback only, with a password
//! made here. As root it runs as user `postgres` or `nobody`, since it refuses root. Never touches the system's server.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::context::{Context, RunAs, Tools};
use super::process::{ProcessSpec, StopBy};
use crate::state::{State, kept_secret};

/// User that the server is initialised with.
const USER: &str = "weft";
/// How long it may take until it answers queries.
const PATIENCE: Duration = Duration::from_mins(1);
/// Folders where systems put the programs that are not on PATH.
const ELSEWHERE: [&str; 6] = [
    "/usr/lib/postgresql",
    "/usr/local/lib/postgresql",
    "/opt/homebrew/opt",
    "/usr/local/opt",
    "/usr/pgsql",
    "/usr/lib64/pgsql",
];

/// The server, ready to be started.
#[derive(Clone, Debug)]
pub(crate) struct Postgres {
    /// What to run.
    pub(crate) process: ProcessSpec,
    /// `postgres://user:password@address`, to which `/database` is added.
    pub(crate) url: String,
    programs: PathBuf,
    address: SocketAddr,
    password: String,
}

/// Finds the programs, makes the data folder where missing.
pub(crate) async fn prepare(cx: &Context, address: SocketAddr) -> Result<Postgres> {
    let programs = find(&cx.tools)?;
    let user = cx.tools.not_root("postgres")?;
    let home = home(&cx.state, user)?;
    let password = kept_secret(&home.join("password")).context("cannot keep the password of PostgreSQL")?;
    own(&home.join("password"), user)?;
    let data = home.join("data");
    if !data.join("PG_VERSION").is_file() {
        initialise(cx, &programs, &home, user).await?;
    }
    check_version(&programs, &data).await?;
    let settings = [
        format!("listen_addresses={}", address.ip()),
        format!("port={}", address.port()),
        "unix_socket_directories=".to_owned(),
        "max_connections=200".to_owned(),
        "shared_buffers=64MB".to_owned(),
    ];
    let process = ProcessSpec {
        name: "postgres".into(),
        program: programs.join("postgres"),
        args: ["-D".to_owned(), data.display().to_string()]
            .into_iter()
            .chain(settings.into_iter().flat_map(|setting| ["-c".to_owned(), setting]))
            .collect(),
        env: Vec::new(),
        directory: home,
        user,
        stop: StopBy::Leader,
    };
    let url = format!("postgres://{USER}:{password}@{address}");
    Ok(Postgres { process, url, programs, address, password })
}

/// Makes the databases that are missing, once the server answers.
pub(crate) async fn create_databases(server: &Postgres, names: &[String]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let existing = loop {
        match server.query("SELECT datname FROM pg_database").await {
            Ok(rows) => break rows,
            Err(error) if Instant::now() > deadline => {
                return Err(error.context("PostgreSQL does not answer"));
            }
            Err(_) => sleep(Duration::from_millis(200)).await,
        }
    };
    for name in names.iter().filter(|name| !existing.lines().any(|row| row == *name)) {
        server
            .query(&format!("CREATE DATABASE {name}"))
            .await
            .with_context(|| format!("cannot make database {name}"))?;
    }
    Ok(())
}

impl Postgres {
    async fn query(&self, sql: &str) -> Result<String> {
        let output = Command::new(self.programs.join("psql"))
            .args(["-X", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1", "-U", USER, "-d", "postgres", "-c", sql])
            .arg("-h")
            .arg(self.address.ip().to_string())
            .arg("-p")
            .arg(self.address.port().to_string())
            .env("PGPASSWORD", &self.password)
            .env("PGCONNECT_TIMEOUT", "5")
            .kill_on_drop(true)
            .output()
            .await
            .context("cannot run psql")?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// The folder with all programs that are needed.
fn find(tools: &Tools) -> Result<PathBuf> {
    let complete =
        |folder: &Path| ["initdb", "postgres", "psql"].iter().all(|name| folder.join(name).is_file());
    let on_path = tools.find("initdb").and_then(|found| found.canonicalize().ok());
    let on_path = on_path.and_then(|found| found.parent().map(Path::to_owned));
    let mut versions: Vec<PathBuf> = ELSEWHERE
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flat_map(Iterator::flatten)
        .map(|entry| entry.path().join("bin"))
        .collect();
    versions.sort_by_key(|folder| std::cmp::Reverse(version_in(folder)));
    on_path.into_iter().chain(versions).find(|folder| complete(folder)).context(
        "PostgreSQL is not installed (initdb, postgres and psql are needed; they need not run). \
         Debian and Ubuntu: apt-get install postgresql; Fedora: dnf install postgresql-server; \
         Arch: pacman -S postgresql; macOS: brew install postgresql",
    )
}

/// The number in `/usr/lib/postgresql/15/bin` or `/usr/local/opt/postgresql@16/bin`.
fn version_in(folder: &Path) -> u32 {
    let name = folder.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let digits: String = name.unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_default()
}

/// The folder of the server: in the state folder, unless its user cannot get there (a home of mode 0700).
fn home(state: &State, user: Option<RunAs>) -> Result<PathBuf> {
    let inside = state.path("postgres");
    let reachable = user.is_none() || inside.ancestors().skip(1).all(anyone_may_enter);
    let home =
        if reachable { inside } else { PathBuf::from("/var/lib/weft").join(state.id()).join("postgres") };
    fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
    own(&home, user)?;
    Ok(home)
}

fn anyone_may_enter(folder: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    folder.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o001 != 0)
}

fn own(path: &Path, user: Option<RunAs>) -> Result<()> {
    let Some(user) = user else { return Ok(()) };
    nix::unistd::chown(path, Some(user.uid), Some(user.gid))
        .with_context(|| format!("cannot give {} away", path.display()))
}

async fn initialise(cx: &Context, programs: &Path, home: &Path, user: Option<RunAs>) -> Result<()> {
    let data = home.join("data");
    if data.exists() {
        // What an interrupted initdb left.
        fs::remove_dir_all(&data).with_context(|| format!("cannot remove {}", data.display()))?;
    }
    let mut command = match (&cx.tools.setpriv, user) {
        (Some(setpriv), Some(user)) => {
            let mut command = Command::new(setpriv);
            command
                .arg(format!("--reuid={}", user.uid))
                .arg(format!("--regid={}", user.gid))
                .arg("--clear-groups");
            command.arg("--").arg(programs.join("initdb"));
            command
        }
        _ => Command::new(programs.join("initdb")),
    };
    let output = command
        .args(["--username", USER, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"])
        .arg("--pwfile")
        .arg(home.join("password"))
        .arg("--pgdata")
        .arg(&data)
        .current_dir(home)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot run initdb")?;
    if !output.status.success() {
        bail!("initdb failed:\n{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Data of another major version cannot be read; say so before the server does it in its log.
async fn check_version(programs: &Path, data: &Path) -> Result<()> {
    let made_by = fs::read_to_string(data.join("PG_VERSION")).context("cannot read PG_VERSION")?;
    let output = Command::new(programs.join("postgres")).arg("--version").output().await?;
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    let major: String =
        version.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    if made_by.trim() != major {
        bail!(
            "the data in {data} was made by PostgreSQL {made_by}, but version {major} is installed; install {made_by} \
             again, or delete {data} and lose what is in it",
            data = data.display(),
            made_by = made_by.trim(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_is_found_by_its_folder() {
        assert_eq!(version_in(Path::new("/usr/lib/postgresql/15/bin")), 15);
        assert_eq!(version_in(Path::new("/opt/homebrew/opt/postgresql@16/bin")), 16);
        assert_eq!(version_in(Path::new("/opt/homebrew/opt/redis/bin")), 0);
    }
}
