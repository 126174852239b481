//! A private etcd and kube-apiserver, the real ones, without controllers: nothing runs pods, so the number of objects is
//! bounded by memory only. Ends with the value.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::process::{Child, Command};

const READY_WITHIN: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_millis(100);
const TOKEN: &str = "measurement";

/// A running API server; dropping it ends its processes.
pub(crate) struct ApiServer {
    folder: tempfile::TempDir,
    _etcd: Child,
    server: Child,
}

impl ApiServer {
    /// Starts both and waits until the API server is ready.
    pub(crate) async fn start(bin: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (client, peer, secure) = (free_port()?, free_port()?, free_port()?);
        let key = rcgen::KeyPair::generate()?;
        std::fs::write(folder.path().join("accounts.key"), key.serialize_pem())?;
        std::fs::write(folder.path().join("accounts.pub"), key.public_key_pem())?;
        std::fs::write(
            folder.path().join("tokens.csv"),
            format!("{TOKEN},admin,admin,\"system:masters\"\n"),
        )?;
        let at = |port: u16| format!("http://127.0.0.1:{port}");
        let etcd = spawn(
            &folder,
            &bin.join("etcd"),
            &[
                format!("--data-dir={}", folder.path().join("etcd").display()),
                format!("--listen-client-urls={}", at(client)),
                format!("--advertise-client-urls={}", at(client)),
                format!("--listen-peer-urls={}", at(peer)),
                "--unsafe-no-fsync".into(),
                format!("--quota-backend-bytes={}", 4_u64 << 30),
            ],
        )?;
        let in_folder = |name: &str| folder.path().join(name).display().to_string();
        let server = spawn(
            &folder,
            &bin.join("kube-apiserver"),
            &[
                format!("--etcd-servers={}", at(client)),
                format!("--secure-port={secure}"),
                "--bind-address=127.0.0.1".into(),
                format!("--cert-dir={}", in_folder("certificates")),
                "--service-account-issuer=https://kubernetes.default.svc".into(),
                format!("--service-account-key-file={}", in_folder("accounts.pub")),
                format!("--service-account-signing-key-file={}", in_folder("accounts.key")),
                "--service-cluster-ip-range=10.96.0.0/12".into(),
                "--authorization-mode=RBAC".into(),
                format!("--token-auth-file={}", in_folder("tokens.csv")),
                "--disable-admission-plugins=ServiceAccount".into(),
                "--endpoint-reconciler-type=none".into(),
                "--max-requests-inflight=2000".into(),
                "--max-mutating-requests-inflight=1000".into(),
            ],
        )?;
        write_kubeconfig(&folder.path().join("kubeconfig"), secure)?;
        let mut running = Self { folder, _etcd: etcd, server };
        running.until_ready().await?;
        Ok(running)
    }

    /// For the operator's process.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// A folder that lives as long.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A client with all rights.
    pub(crate) async fn client(&self) -> Result<Client> {
        let config = Kubeconfig::read_from(self.kubeconfig())?;
        let config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
        Ok(Client::try_from(config)?)
    }

    fn still_runs(&mut self) -> Result<()> {
        if let Some(ended) = self.server.try_wait()? {
            let log = std::fs::read_to_string(self.folder.path().join("kube-apiserver.log"))?;
            bail!("the API server ended ({ended}):\n{log}");
        }
        Ok(())
    }

    async fn until_ready(&mut self) -> Result<()> {
        let client = self.client().await?;
        let ready = async {
            let mut look = tokio::time::interval(LOOK);
            while client.request_text(http::Request::get("/readyz").body(Vec::new())?).await.is_err() {
                self.still_runs()?;
                look.tick().await;
            }
            Ok::<_, anyhow::Error>(())
        };
        match tokio::time::timeout(READY_WITHIN, ready).await {
            Ok(ready) => ready,
            Err(_) => {
                bail!("the API server is not ready after {READY_WITHIN:?}; its log is gone with its folder")
            }
        }
    }
}

fn spawn(folder: &tempfile::TempDir, program: &Path, arguments: &[String]) -> Result<Child> {
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let log = std::fs::File::create(folder.path().join(format!("{name}.log")))?;
    Command::new(program)
        .args(arguments)
        .current_dir(folder.path())
        .stdin(std::process::Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{} cannot be started; `make cluster` builds it", program.display()))
}

fn write_kubeconfig(path: &Path, port: u16) -> Result<()> {
    let config = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "scale",
        "clusters": [{"name": "scale", "cluster": {"server": format!("https://127.0.0.1:{port}"), "insecure-skip-tls-verify": true}}],
        "users": [{"name": "admin", "user": {"token": TOKEN}}],
        "contexts": [{"name": "scale", "context": {"cluster": "scale", "user": "admin"}}],
    });
    std::fs::write(path, config.to_string()).context("kubeconfig")
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
