//! Private PostgreSQL and Redis servers: one of each per test process, a database of its own per test.
//! PostgreSQL refuses to run as root, so it runs as `postgres` or `nobody` when the tests do.

use std::{
    fs,
    io::Read as _,
    net::TcpStream,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use super::process::free_port;
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User, geteuid},
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, query};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Starts a server, waits for the end of this process, stops the server and removes its folder.
const KEEPER: &str = r#"
dir=$1; stop=$2; shift 2
"$@" >"$dir/log" 2>&1 &
server=$!
end() { kill -s "$stop" $server 2>/dev/null; wait $server; cd /; rm -rf "$dir"; exit 0; }
trap end TERM INT HUP
wait $server
end
"#;

/// A running server and its keeper.
struct Kept {
    keeper: Pid,
    ended: Mutex<mpsc::Receiver<()>>,
}

impl Kept {
    fn start(dir: &Path, stop: &str, command: &[&str]) -> Self {
        let (started, keeper) = mpsc::channel();
        let (over, ended) = mpsc::channel();
        let mut shell = Command::new("setpriv");
        shell.args(["--pdeathsig", "TERM", "sh", "-c", KEEPER, "keeper"]).arg(dir).arg(stop).args(command);
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // The kernel sends the death signal when the thread that forked ends, and a test's thread ends with it.
        thread::spawn(move || {
            let mut child: Child = shell.spawn().expect("setpriv and sh are on PATH");
            started.send(Pid::from_raw(child.id().cast_signed())).unwrap();
            child.wait().ok();
            over.send(()).ok();
        });
        Self { keeper: keeper.recv().unwrap(), ended: Mutex::new(ended) }
    }

    fn stop(&self) {
        kill(self.keeper, Signal::SIGTERM).unwrap();
        self.ended.lock().unwrap().recv_timeout(Duration::from_secs(10)).expect("the server stops");
    }
}

fn folder() -> PathBuf {
    let name = format!("shop-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let dir = std::env::temp_dir().join(name);
    fs::create_dir_all(&dir).unwrap();
    dir
}

fn wait_for(what: &str, dir: &Path, mut ready: impl FnMut() -> bool) {
    let (_keep, never) = mpsc::channel::<()>();
    for _ in 0..600 {
        if ready() {
            return;
        }
        never.recv_timeout(Duration::from_millis(25)).ok();
    }
    panic!("{what} did not start:\n{}", fs::read_to_string(dir.join("log")).unwrap_or_default());
}

/// An empty database on the PostgreSQL server of this process, as a URL.
pub async fn database() -> String {
    static SERVER: OnceLock<(Kept, u16)> = OnceLock::new();
    let port = tokio::task::spawn_blocking(|| SERVER.get_or_init(start_postgres).1).await.unwrap();
    let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let server = format!("postgres://shop@127.0.0.1:{port}");
    let mut admin = PgConnection::connect(&format!("{server}/postgres")).await.unwrap();
    query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await.unwrap();
    format!("{server}/{name}")
}

fn start_postgres() -> (Kept, u16) {
    let dir = folder();
    let data = dir.join("data");
    let prefix = unprivileged(&dir);
    let run = |program: &str, args: &[&str]| {
        let mut words = prefix.clone();
        words.push(postgres_program(program));
        words.extend(args.iter().map(ToString::to_string));
        words
    };
    let text = data.to_str().unwrap();
    let initdb =
        run("initdb", &["-D", text, "-U", "shop", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]);
    let made = Command::new(&initdb[0]).args(&initdb[1..]).output().expect("initdb runs");
    assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
    let port = free_port();
    let port_text = port.to_string();
    let mut args = vec!["-D", text, "-p", &port_text, "-h", "127.0.0.1", "-k", ""];
    for option in ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=300"] {
        args.extend(["-c", option]);
    }
    let command = run("postgres", &args);
    let kept = Kept::start(&dir, "INT", &command.iter().map(String::as_str).collect::<Vec<_>>());
    let ready = postgres_program("pg_isready");
    wait_for("postgres", &dir, || {
        let asked = Command::new(&ready).args(["-q", "-h", "127.0.0.1", "-p", &port_text]).status();
        asked.is_ok_and(|status| status.success())
    });
    (kept, port)
}

/// The words to put before a command so that root does not run it, after giving the folder away.
fn unprivileged(dir: &Path) -> Vec<String> {
    if !geteuid().is_root() {
        return Vec::new();
    }
    let known = ["postgres", "nobody"].iter().find_map(|name| User::from_name(name).ok().flatten());
    let user = known.expect("there is a user nobody");
    chown(dir, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    let (uid, gid) = (format!("--reuid={}", user.uid), format!("--regid={}", user.gid));
    ["setpriv", &uid, &gid, "--clear-groups", "--pdeathsig", "INT"].map(String::from).into()
}

fn postgres_program(name: &str) -> String {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = debian.map(|version| version.path().join("bin").join(name)).find(|path| path.exists());
    found.map_or_else(|| name.to_owned(), |path| path.to_str().unwrap().to_owned())
}

/// An empty database on the Redis server of this process, as a URL.
pub async fn redis() -> String {
    static SERVER: OnceLock<RedisServer> = OnceLock::new();
    static DATABASE: AtomicU32 = AtomicU32::new(0);
    let server = tokio::task::spawn_blocking(|| SERVER.get_or_init(RedisServer::start)).await.unwrap();
    format!("{}/{}", server.url(), DATABASE.fetch_add(1, Ordering::Relaxed))
}

/// A Redis server that a test can stop and start.
pub struct RedisServer {
    port: u16,
    kept: Mutex<Option<Kept>>,
}

impl RedisServer {
    /// Starts a server on a free port.
    pub fn start() -> Self {
        let server = Self { port: free_port(), kept: Mutex::new(None) };
        server.resume();
        server
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Stops the server; what it held is lost.
    pub fn stop(&self) {
        self.kept.lock().unwrap().take().expect("the server runs").stop();
    }

    /// Starts it again at the same place.
    pub fn resume(&self) {
        let dir = folder();
        let port = self.port.to_string();
        let place = ["--port", &port, "--bind", "127.0.0.1", "--dir", dir.to_str().unwrap()];
        let plain = ["--save", "", "--appendonly", "no", "--databases", "1000"];
        let command = [["redis-server"].as_slice(), &place, &plain].concat();
        let kept = Kept::start(&dir, "TERM", &command);
        wait_for("redis-server", &dir, || {
            let Ok(mut socket) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
            std::io::Write::write_all(&mut socket, b"PING\r\n").ok();
            let mut answer = [0; 5];
            socket.read_exact(&mut answer).is_ok_and(|()| answer == *b"+PONG")
        });
        *self.kept.lock().unwrap() = Some(kept);
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(kept) = self.kept.lock().unwrap().take() {
            kept.stop();
        }
    }
}

/// Takes a database away from all who use it: their connections end, and no new ones are let in.
pub async fn cut_off(database: &str) {
    let (mut admin, name) = admin_of(database).await;
    query(AssertSqlSafe(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")))
        .execute(&mut admin)
        .await
        .unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
    query(end).bind(name).execute(&mut admin).await.unwrap();
}

/// Gives a database back.
pub async fn let_in(database: &str) {
    let (mut admin, name) = admin_of(database).await;
    query(AssertSqlSafe(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")))
        .execute(&mut admin)
        .await
        .unwrap();
}

async fn admin_of(database: &str) -> (PgConnection, &str) {
    let (server, name) = database.rsplit_once('/').unwrap();
    (PgConnection::connect(&format!("{server}/postgres")).await.unwrap(), name)
}
