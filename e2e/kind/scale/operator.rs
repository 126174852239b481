//! The operator's process beside the API server, and what the kernel says it takes.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};

use crate::api_server::ApiServer;
use crate::ask::ask;

const READY_WITHIN: Duration = Duration::from_mins(3);
const LOOK: Duration = Duration::from_millis(100);

/// A running operator; dropping it ends the process.
pub(crate) struct Operator {
    process: Child,
    pub(crate) grpc: SocketAddr,
}

impl Operator {
    /// Starts it and waits until it serves.
    pub(crate) async fn start(binary: &Path, server: &ApiServer) -> Result<Self> {
        let (grpc, admin, webhook) = (free()?, free()?, free()?);
        let log = std::fs::File::create(server.folder().join("operator.log"))?;
        let mut process = Command::new(binary)
            .args(["--source", "kube"])
            .args(["--grpc-addr", &grpc.to_string()])
            .args(["--admin-addr", &admin.to_string()])
            .args(["--webhook-addr", &webhook.to_string()])
            .args(["--state", &server.folder().join("state").display().to_string()])
            .env("KUBECONFIG", server.kubeconfig())
            .env("WEFT_POD_NAME", "operator-0")
            .env("WEFT_POD_IP", "127.0.0.1")
            .stdin(std::process::Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} cannot be started", binary.display()))?;
        let ready = until_ready(&mut process, admin);
        let ready = tokio::time::timeout(READY_WITHIN, ready).await.context("the operator is not ready")?;
        if let Err(error) = ready {
            let log = std::fs::read_to_string(server.folder().join("operator.log"))?;
            return Err(error.context(log));
        }
        Ok(Self { process, grpc })
    }

    /// Resident memory.
    pub(crate) fn memory_mib(&self) -> Result<f64> {
        resident_mib(&self.process)
    }

    /// CPU time so far (`proc_pid_stat(5)`, fields 14 and 15, in ticks of 10 ms).
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(self.proc("stat"))?;
        let (_, after_name) = stat.rsplit_once(')').context("stat")?;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).context("stat")?.parse::<u64>().context("stat");
        Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 10))
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.process.id().unwrap_or_default())
    }
}

/// Resident memory of a process.
pub(crate) fn resident_mib(process: &Child) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id().unwrap_or_default()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib / 1024.0)
}

async fn until_ready(process: &mut Child, admin: SocketAddr) -> Result<()> {
    let mut look = tokio::time::interval(LOOK);
    while !is_ready(admin).await {
        if let Some(ended) = process.try_wait()? {
            bail!("the operator ended ({ended})");
        }
        look.tick().await;
    }
    Ok(())
}

async fn is_ready(admin: SocketAddr) -> bool {
    ask(admin, "operator", "/ready").await.is_ok_and(|status| status.is_success())
}

pub(crate) fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
