//! The paths that are compared, brought up together and taken down together.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::process::Child;
use tokio::time::{Instant, sleep};

use crate::load::{self, Load};
use crate::weft::Addresses;
use crate::{machine, nginx, weft};

/// One way from the load to the origin.
pub(crate) struct Path {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// The proxies on it.
    pub(crate) processes: Vec<u32>,
}

/// All of them.
pub(crate) struct Paths {
    all: Vec<Path>,
    children: Children,
    dir: TempDir,
}

/// Processes, asked to end when dropped. Not killed: nginx's workers would outlive their master.
struct Children(Vec<Child>);

impl Children {
    fn ask_to_end(&self) {
        for pid in self.0.iter().filter_map(Child::id).filter_map(|pid| i32::try_from(pid).ok()) {
            // One that has ended by itself is what was wanted.
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).ok();
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        self.ask_to_end();
    }
}

pub(crate) const DIRECT: &str = "direct";
pub(crate) const ONE: &str = "Weft, one sidecar";
pub(crate) const TWO: &str = "Weft, two sidecars, mTLS";
pub(crate) const NGINX: &str = "nginx, two hops, mTLS";
const START: Duration = Duration::from_secs(20);

impl Paths {
    /// Starts origin, nginx's hops, operator and proxies, and waits until every path answers.
    pub(crate) async fn start() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("weft-bench-").tempdir()?;
        let d = dir.path();
        let [origin, server, client, operator, outbound, inbound, plain] = free_ports()?;
        nginx::certificates(d)?;
        let at = Addresses { operator, origin, outbound, inbound, plain };
        // Workers of nginx give up root and must still reach their folders.
        std::fs::set_permissions(d, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let mut children = Children(Vec::new());
        children.0.push(nginx::origin(d, origin)?);
        children.0.push(nginx::server(d, server, origin)?);
        children.0.push(nginx::client(d, client, server)?);
        children.0.push(weft::operator(d, &at)?);
        for service in ["plain", "origin", "load"] {
            children.0.push(weft::proxy(d, &at, service)?);
        }
        let pid = |index: usize| children.0.get(index).and_then(Child::id).context("a process ended at once");
        let all = vec![
            Path { name: DIRECT, address: origin, processes: Vec::new() },
            Path { name: ONE, address: plain, processes: vec![pid(4)?] },
            Path { name: TWO, address: outbound, processes: vec![pid(5)?, pid(6)?] },
            Path { name: NGINX, address: client, processes: vec![pid(1)?, pid(2)?] },
        ];
        let paths = Self { all, children, dir };
        for path in &paths.all {
            if let Err(error) = answers(path.address).await {
                let kept = paths.dir.keep();
                return Err(error.context(format!(
                    "{} does not answer; logs in {}",
                    path.name,
                    kept.display()
                )));
            }
        }
        Ok(paths)
    }

    pub(crate) fn all(&self) -> &[Path] {
        &self.all
    }

    /// Resident memory of each path's proxies before any load, in MiB per process.
    pub(crate) fn idle_memory(&self) -> Result<Vec<(&'static str, f64)>> {
        let proxied = self.all.iter().filter(|path| !path.processes.is_empty());
        proxied
            .map(|path| Ok((path.name, machine::memory_mib(&path.processes)? / path.processes.len() as f64)))
            .collect()
    }

    /// Ends every process and waits for it.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.children.ask_to_end();
        for child in &mut self.children.0 {
            if tokio::time::timeout(Duration::from_secs(10), child.wait()).await.is_err() {
                child.kill().await?;
            }
        }
        Ok(())
    }
}

/// Waits until one request comes back well.
async fn answers(address: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + START;
    loop {
        let once = Load::closed(1, Duration::from_millis(20));
        let Err(error) = load::run(address, &once).await else { return Ok(()) };
        if Instant::now() > deadline {
            return Err(error);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Ports that were free a moment ago; nothing else on this machine is expected to take them meanwhile.
fn free_ports<const N: usize>() -> Result<[SocketAddr; N]> {
    let listeners: Vec<TcpListener> =
        (0..N).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let addresses: Vec<SocketAddr> =
        listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
    addresses.try_into().ok().context("as many ports as asked for")
}
