//! A gateway as a process of its own, with the real operator: what it uses is seen from outside.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use weft_e2e::client::{get, try_send};
use weft_e2e::eventually;
use weft_e2e::manifest::secret;

use crate::site::{self, Duplex};

const TOKEN: &str = "conformance";

/// A running gateway before one application. Dropped, all of it ends.
pub(crate) struct Process {
    at: IpAddr,
    pid: u32,
    edge: rustls::pki_types::CertificateDer<'static>,
    children: Vec<Child>,
    folder: tempfile::TempDir,
}

impl Drop for Process {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Process {
    /// Starts it with these settings besides the usual ones; ready when this returns.
    pub(crate) async fn start(app: SocketAddr, settings: &[&str]) -> Self {
        let (folder, at) = (tempfile::tempdir().unwrap(), address());
        let (secret, edge) = secret(site::HOST);
        let (manifests, state) = (folder.path().join("manifests"), folder.path().join("state"));
        fs::create_dir_all(&manifests).unwrap();
        fs::create_dir_all(&state).unwrap();
        fs::write(manifests.join("shop.yaml"), site::manifests() + &secret).unwrap();
        fs::write(state.join("instances.json"), instances(app, at).to_string()).unwrap();
        let log = |name: &str| File::create(folder.path().join(name)).unwrap();
        let spawn = |command: &mut Command, name: &str| {
            let log = log(name);
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
        };
        let mut operator = Command::new(binary("weft-operator"));
        operator.arg(format!("--source=dir:{}", manifests.display()));
        operator.arg(format!("--state={}", state.display()));
        operator.args([format!("--grpc-addr={at}:15012"), format!("--admin-addr={at}:15014")]);
        let mut proxy = Command::new(binary("weft-proxy"));
        proxy.args(["--workload=shop/public", "--account=public", "--instance=public-0", "--workers=1"]);
        proxy.arg(format!("--operator={at}:15012"));
        proxy.arg(format!("--roots={}", state.join("roots.pem").display()));
        for (setting, port) in [("admin", 15000), ("health", 15021), ("metrics", 15090)] {
            // Admin pages are for loopback alone, which all of 127.0.0.0/8 is.
            proxy.arg(format!("--{setting}-addr={at}:{port}"));
        }
        proxy.args(settings).arg("gateway").env("WEFT_TOKEN", TOKEN);
        let children = vec![spawn(&mut operator, "operator.log"), spawn(&mut proxy, "proxy.log")];
        let pid = children[1].id();
        let process = Self { at, pid, edge, children, folder };
        eventually("the gateway serves", async || {
            let get = http::Request::get("/").body(bytes::Bytes::new()).unwrap();
            try_send(process.http(), get).await.is_ok_and(|answer| answer.status == 200).then_some(())
        })
        .await;
        process
    }

    /// The plain listener.
    pub(crate) fn http(&self) -> SocketAddr {
        SocketAddr::new(self.at, 8080)
    }

    /// A plain connection.
    pub(crate) async fn connect(&self) -> Box<dyn Duplex> {
        let stream = TcpStream::connect(self.http()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Box::new(stream)
    }

    /// A connection to the TLS listener on which nothing has been said yet.
    pub(crate) async fn connect_tls(&self) -> TcpStream {
        TcpStream::connect((self.at, 8443)).await.unwrap()
    }

    /// One request over TLS, and its status line.
    pub(crate) async fn get_tls(&self) -> std::io::Result<String> {
        site::get_tls(self.connect_tls().await, &self.edge).await
    }

    /// Waits until the gateway has logged a line with all of these in it.
    pub(crate) async fn logged(&self, pieces: &[&str]) {
        eventually(&format!("a line with {pieces:?} is logged"), async || {
            let log = fs::read_to_string(self.folder.path().join("proxy.log")).unwrap();
            log.lines().any(|line| pieces.iter().all(|piece| line.contains(piece))).then_some(())
        })
        .await;
    }

    /// Resident memory, in MiB.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    /// The sum of all series of a metric with this in their labels.
    pub(crate) async fn metric(&self, name: &str, label: &str) -> u64 {
        let page = get(SocketAddr::new(self.at, 15090), "/metrics").await.text();
        let series = page.lines().filter(|line| line.starts_with(name) && line.contains(label));
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Waits until a metric has at least this value.
    pub(crate) async fn counted(&self, name: &str, label: &str, least: u64) {
        eventually(&format!("{name}{{{label}}} reaches {least}"), async || {
            (self.metric(name, label).await >= least).then_some(())
        })
        .await;
    }
}

fn instances(app: SocketAddr, at: IpAddr) -> serde_json::Value {
    let hash = Sha256::digest(TOKEN).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    });
    let listener = |port: u16| SocketAddr::new(at, port).to_string();
    json!({"instances": [
        {
            "namespace": "shop", "service": "public", "name": "public-0", "role": "Gateway", "address": at,
            "listeners": {"http": listener(8080), "https": listener(8443)}, "ready": true, "tokenSha256": hash,
        },
        {
            "namespace": "shop", "service": "bare", "name": "bare-0", "role": "Service", "address": at,
            "ports": {"http": {"app": app, "peers": app}}, "ready": true, "meshed": false,
        },
    ]})
}

/// Binaries of the same build as this test.
fn binary(name: &str) -> PathBuf {
    let path = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join(name);
    assert!(path.exists(), "{} is not built: run cargo build --workspace --bins", path.display());
    path
}

/// A loopback address for each; tests of other processes that run at the same time differ by pid.
fn address() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let pid = std::process::id().to_be_bytes();
    [127, 200 + pid[2] % 50, pid[3], NEXT.fetch_add(1, Ordering::Relaxed)].into()
}
