//! The paths that are compared, brought up together and taken down together: fresh for every load, so that memory says
//! what that load needs.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path as FsPath, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::process::Child;
use tokio::time::{Instant, sleep, timeout};
use weft_e2e::tokens::Issuer;

use crate::client::Caller;
use crate::loads::{Entry, Load};
use crate::measure;
use crate::origin::Origin;
use crate::rivals::{self, Between, Hops, Origins};
use crate::weft::{self, Environment, Plan, Weft};
use crate::{certificates, machine};

/// What stands between load and origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Direct,
    Weft,
    /// Without the transport of Weft's own between the sidecars.
    WeftHttp,
    Nginx,
    HaproxyHttp1,
    HaproxyHttp2,
    Envoy,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] = [
        Self::Direct,
        Self::Weft,
        Self::WeftHttp,
        Self::Nginx,
        Self::HaproxyHttp1,
        Self::HaproxyHttp2,
        Self::Envoy,
    ];

    /// As tables and plots call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Weft => "Weft",
            Self::WeftHttp => "Weft, HTTP between",
            Self::Nginx => "nginx",
            Self::HaproxyHttp1 => "HAProxy, h1 between",
            Self::HaproxyHttp2 => "HAProxy, h2 between",
            Self::Envoy => "Envoy, h2 between",
        }
    }
}

/// One way from the load to the origin.
pub(crate) struct Path {
    pub(crate) kind: Kind,
    pub(crate) address: SocketAddr,
    /// The proxies on it.
    pub(crate) processes: Vec<u32>,
    /// Their resident memory before any load, in MiB together.
    pub(crate) idle: f64,
}

/// What paths are made for.
pub(crate) struct Wanted<'a> {
    pub(crate) kinds: &'a [Kind],
    pub(crate) load: &'a Load,
    /// Envoy's program, where there is one.
    pub(crate) envoy: Option<&'a FsPath>,
}

/// All of them.
pub(crate) struct Paths {
    pub(crate) all: Vec<Path>,
    pub(crate) caller: Caller,
    children: Children,
    _origin: Origin,
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

    /// Keeps them; says which they are.
    fn keep(&mut self, children: impl IntoIterator<Item = Child>) -> Result<Vec<u32>> {
        let begin = self.0.len();
        self.0.extend(children);
        self.0[begin..].iter().map(|child| child.id().context("a process ended at once")).collect()
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        self.ask_to_end();
    }
}

/// Ports from here on are given to origins and proxies.
const FIRST_PORT: u16 = 20_000;
const START: Duration = Duration::from_mins(1);
const END: Duration = Duration::from_secs(10);

impl Paths {
    /// Starts origins, proxies and operator, and waits until every path answers.
    pub(crate) async fn start(wanted: &Wanted<'_>) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("weft-bench-").tempdir()?;
        // Workers of nginx give up root and must still reach their folders.
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let issuer = Issuer::new("bench");
        let caller = Caller { token: weft::user_token(&issuer), roots: certificates::write(dir.path())? };
        let origin = Origin::start().await?;
        let [http1] = free_ports()?;
        let origins = Origins { http1, http2: origin.http2, websocket: origin.websocket };
        let mut children = Children(vec![rivals::origin(dir.path(), http1)?]);
        let builder = Builder { dir: dir.path(), wanted, origins, issuer, traces: origin.traces };
        let mut all = Vec::new();
        for kind in wanted.kinds {
            all.extend(builder.path(*kind, &mut children)?);
        }
        let mut paths = Self { all, caller, children, _origin: origin, dir };
        if let Err(error) = paths.answer(wanted.load).await {
            return Err(error.context(paths.keep_logs()));
        }
        Ok(paths)
    }

    /// Waits until one request comes back well on each, and notes what memory they need until then.
    async fn answer(&mut self, load: &Load) -> Result<()> {
        let probe = load.probe();
        for path in &mut self.all {
            answers(&self.caller, path.address, &probe)
                .await
                .with_context(|| format!("{} does not answer", path.kind.name()))?;
            path.idle = machine::memory_mib(&path.processes)?;
        }
        Ok(())
    }

    /// Leaves the folder of this run where it is, and says where.
    pub(crate) fn keep_logs(self) -> String {
        format!("logs in {}", self.dir.keep().display())
    }

    /// Ends every process and waits for it.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.children.ask_to_end();
        for child in &mut self.children.0 {
            if timeout(END, child.wait()).await.is_err() {
                child.kill().await?;
            }
        }
        Ok(())
    }
}

/// Waits until a path has answered three times in a row: its configuration may still be on its way when it first does.
async fn answers(caller: &Caller, address: SocketAddr, probe: &Load) -> Result<()> {
    let deadline = Instant::now() + START;
    let mut good = 0;
    while good < 3 {
        match measure::once(caller, address, probe).await {
            Ok(()) => good += 1,
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => good = 0,
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

struct Builder<'a> {
    dir: &'a FsPath,
    wanted: &'a Wanted<'a>,
    origins: Origins,
    issuer: Issuer,
    traces: SocketAddr,
}

impl Builder<'_> {
    /// One path, if it can be had for this load.
    fn path(&self, kind: Kind, children: &mut Children) -> Result<Option<Path>> {
        let entry = self.wanted.load.entry();
        let hops = Hops::free()?;
        let (dir, origins) = (self.dir, &self.origins);
        let processes = match kind {
            Kind::Direct => {
                let address = self.origin(entry);
                return Ok(address.map(|address| Path { kind, address, processes: Vec::new(), idle: 0.0 }));
            }
            Kind::Weft => return self.weft(kind, children, ("weft", &[])).map(Some),
            Kind::WeftHttp => {
                return self.weft(kind, children, ("weft-http", &[("WEFT_TRANSPORT", "http")])).map(Some);
            }
            Kind::Nginx => rivals::nginx(dir, &hops, origins)?,
            Kind::HaproxyHttp1 => rivals::haproxy(dir, &hops, origins, Between::Http1)?,
            Kind::HaproxyHttp2 => rivals::haproxy(dir, &hops, origins, Between::Http2)?,
            Kind::Envoy => {
                let Some(program) = self.wanted.envoy else { return Ok(None) };
                rivals::envoy(program, dir, &hops, origins)?
            }
        };
        let address = match entry {
            Entry::Http1 => hops.client_http1,
            Entry::Http2 | Entry::Grpc => hops.client_http2,
            Entry::Tls => hops.client_tls,
            Entry::WebSocket => hops.client_websocket,
        };
        Ok(Some(Path { kind, address, processes: children.keep(processes)?, idle: 0.0 }))
    }

    fn origin(&self, entry: Entry) -> Option<SocketAddr> {
        match entry {
            Entry::Http1 => Some(self.origins.http1),
            Entry::Http2 | Entry::Grpc => Some(self.origins.http2),
            Entry::Tls => None,
            Entry::WebSocket => Some(self.origins.websocket),
        }
    }

    fn weft(
        &self,
        kind: Kind,
        children: &mut Children,
        (name, environment): (&'static str, Environment),
    ) -> Result<Path> {
        let plan = Plan {
            dir: self.dir,
            name,
            issuer: &self.issuer,
            origins: self.origins,
            traces: self.traces,
            environment,
        };
        let Weft { operator, client, server, gateway, http1, http2, grpc, websocket, tls } =
            weft::weft(&plan)?;
        let ids = children.keep([operator, client, server, gateway])?;
        let [_, client, server, gateway] = ids.try_into().ok().context("as many as were started")?;
        let (address, first) = match self.wanted.load.entry() {
            Entry::Http1 => (http1, client),
            Entry::Http2 => (http2, client),
            Entry::Grpc => (grpc, client),
            Entry::WebSocket => (websocket, client),
            Entry::Tls => (tls, gateway),
        };
        Ok(Path { kind, address, processes: vec![first, server], idle: 0.0 })
    }
}

/// Ports of loopback that are free and that nobody in this process was given before. None of those that the system gives
/// out by itself (from 32768 on, unless set otherwise): between now and when it is used, one of them may be gone.
pub(crate) fn free_ports<const N: usize>() -> Result<[SocketAddr; N]> {
    static NEXT: AtomicU16 = AtomicU16::new(FIRST_PORT);
    let mut ports = Vec::new();
    while ports.len() < N {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        ensure!(port < 32_768, "no free ports from {FIRST_PORT} on");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            ports.push(address);
        }
    }
    ports.try_into().ok().context("as many ports as asked for")
}

/// Envoy's program: on the search path, or where `setup.sh bench` puts it.
pub(crate) fn find_envoy(given: Option<PathBuf>) -> Option<PathBuf> {
    let installed = FsPath::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/envoy/envoy/_bin/envoy");
    given.or(installed.exists().then_some(installed))
}
