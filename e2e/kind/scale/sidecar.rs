//! A real sidecar beside the simulated ones: traffic redirected to it, as in a pod, calls some of the services, and then
//! the kernel says what it takes. Everything runs in a network namespace of its own, where nothing else is redirected.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, unshare};
use tokio::process::{Child, Command};
use tokio::time::{Instant, interval};

use crate::api_server::ApiServer;
use crate::ask::ask;
use crate::objects::{Cluster, NAMESPACE, pod, service};
use crate::operator::{Operator, free, resident_mib};

/// Whose traffic is not redirected: the proxy's.
const UID: u32 = 1337;
/// The service that the sidecar belongs to.
const OWN: usize = 1;
const READY_WITHIN: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(100);

/// Leaves the machine's network, for one in which what is not local leads out through a device, so that it can be
/// redirected. Before any thread is started: the namespace is a thread's.
pub(crate) fn own_network() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("a network namespace, which takes root")?;
    for arguments in [
        "link set lo up",
        "link add away type veth peer name far",
        "link set away up",
        "link set far up",
        "address add 10.128.0.1/32 dev away",
        "route add default dev away",
    ] {
        let done =
            std::process::Command::new("ip").args(arguments.split(' ')).output().context("starting `ip`")?;
        ensure!(done.status.success(), "`ip {arguments}`: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(())
}

/// What it takes when it is ready, and after its first calls.
pub(crate) struct Memory {
    pub(crate) idle_mib: f64,
    pub(crate) used_mib: f64,
}

/// Starts it, calls so many services through it, ends it.
pub(crate) async fn measure(
    binary: &Path,
    (server, cluster, operator): (&ApiServer, &Cluster, &Operator),
    uses: usize,
) -> Result<Memory> {
    let (outbound, health) = (free()?, free()?);
    let binary = reachable(binary, server)?;
    redirect(&binary, outbound).await?;
    let mut process = start(&binary, (server, cluster, operator), (outbound, health)).await?;
    until_ready(&mut process, health, server).await?;
    let idle_mib = resident_mib(&process)?;
    for step in 0..uses {
        let named = service((OWN + step * 7) % cluster.services());
        let somewhere = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 97, 0, 1)) + u32::try_from(step)?);
        // No pod answers; that the sidecar knows whom it would have asked is what is wanted.
        ask(SocketAddr::from((somewhere, 80)), &format!("{named}.{NAMESPACE}.svc"), "/")
            .await
            .with_context(|| format!("calling {named} through the sidecar"))?;
    }
    let used_mib = resident_mib(&process)?;
    process.kill().await?;
    Ok(Memory { idle_mib, used_mib })
}

/// A copy that the proxy's user may start, wherever the binary lies.
fn reachable(binary: &Path, server: &ApiServer) -> Result<PathBuf> {
    std::fs::set_permissions(server.folder(), std::fs::Permissions::from_mode(0o755))?;
    let copy = server.folder().join("weft-proxy");
    std::fs::copy(binary, &copy).with_context(|| format!("reading {}", binary.display()))?;
    Ok(copy)
}

async fn redirect(binary: &Path, outbound: SocketAddr) -> Result<()> {
    let done =
        Command::new(binary).arg("init").env("WEFT_OUTBOUND_ADDR", outbound.to_string()).output().await?;
    ensure!(done.status.success(), "weft-proxy init: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

async fn start(
    binary: &Path,
    (server, cluster, operator): (&ApiServer, &Cluster, &Operator),
    (outbound, health): (SocketAddr, SocketAddr),
) -> Result<Child> {
    let roots = server.folder().join("roots.pem");
    std::fs::write(&roots, cluster.roots_pem().await?)?;
    let log = std::fs::File::create(server.folder().join("weft-proxy.log"))?;
    Command::new(binary)
        .uid(UID)
        .env("WEFT_WORKLOAD", format!("{NAMESPACE}/{}", service(OWN)))
        .env("WEFT_ACCOUNT", service(OWN))
        .env("WEFT_INSTANCE", pod(OWN))
        .env("WEFT_OPERATOR", operator.grpc.to_string())
        .env("WEFT_ROOTS", roots)
        .env("WEFT_TOKEN", cluster.token(OWN).await?)
        .env("WEFT_OUTBOUND_ADDR", outbound.to_string())
        .env("WEFT_HEALTH_ADDR", health.to_string())
        .env("WEFT_METRICS_ADDR", "127.0.0.1:0")
        .env("WEFT_ADMIN_ADDR", "127.0.0.1:0")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .context("starting the sidecar")
}

async fn until_ready(process: &mut Child, health: SocketAddr, server: &ApiServer) -> Result<()> {
    let (mut look, deadline) = (interval(LOOK), Instant::now() + READY_WITHIN);
    while !ask(health, "proxy", "/ready").await.is_ok_and(|status| status.is_success()) {
        if process.try_wait()?.is_some() || Instant::now() > deadline {
            let log = std::fs::read_to_string(server.folder().join("weft-proxy.log"))?;
            bail!("the sidecar is not ready:\n{log}");
        }
        look.tick().await;
    }
    Ok(())
}
