//! Weft's side: the real operator reading a directory, and real proxies that get identity and configuration from it, with
//! what every request of a mesh meets switched on: authorization, breaker, metrics.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use tokio::process::{Child, Command};
use weft_core::instances::{Instance, Instances, PortAddresses, Role};

const MANIFESTS: &str = "\
apiVersion: weft.dev/v1alpha1
kind: Microservice
metadata: {name: origin, namespace: bench}
spec:
  ports: [{name: http, port: 80, targetPort: 8080, protocol: HTTP}]
  authorization:
    default: Deny
    rules:
    - {name: load, from: {services: [load]}, to: {methods: [GET], paths: [\"/*\"]}}
  resilience:
    timeout: 5s
    circuitBreaker: {consecutiveFailures: 5, openFor: 60s}
---
apiVersion: weft.dev/v1alpha1
kind: Microservice
metadata: {name: plain, namespace: bench}
spec:
  ports: [{name: http, port: 80, targetPort: 8080, protocol: HTTP}]
  mtls: {mode: Disabled}
---
apiVersion: weft.dev/v1alpha1
kind: Microservice
metadata: {name: load, namespace: bench}
spec:
  ports: [{name: http, port: 80, targetPort: 8080, protocol: HTTP}]
";

/// Where the proxies of this bench listen.
pub(crate) struct Addresses {
    pub(crate) operator: SocketAddr,
    pub(crate) origin: SocketAddr,
    /// The client side's listener for the origin.
    pub(crate) outbound: SocketAddr,
    /// The server side's mutual TLS listener.
    pub(crate) inbound: SocketAddr,
    /// Listener of the sidecar without TLS.
    pub(crate) plain: SocketAddr,
}

/// The operator's process.
pub(crate) fn operator(dir: &Path, at: &Addresses) -> Result<Child> {
    let manifests = dir.join("manifests");
    std::fs::create_dir_all(&manifests)?;
    std::fs::write(manifests.join("bench.yaml"), MANIFESTS)?;
    let state = dir.join("state");
    std::fs::create_dir_all(&state)?;
    std::fs::write(state.join("instances.json"), serde_json::to_vec(&instances(at))?)?;
    Command::new(binary("weft-operator")?)
        .arg("--source")
        .arg(format!("dir:{}", manifests.display()))
        .arg("--state")
        .arg(&state)
        .args(["--grpc-addr", &at.operator.to_string(), "--admin-addr", "127.0.0.1:0", "--log", "warn"])
        .stdin(Stdio::null())
        .stdout(log(dir, "operator")?)
        .stderr(log(dir, "operator-err")?)
        .spawn()
        .context("starting weft-operator")
}

/// The proxy beside one service.
pub(crate) fn proxy(dir: &Path, at: &Addresses, service: &str) -> Result<Child> {
    Command::new(binary("weft-proxy")?)
        .env("WEFT_WORKLOAD", format!("bench/{service}"))
        .env("WEFT_ACCOUNT", service)
        .env("WEFT_INSTANCE", format!("{service}-0"))
        .env("WEFT_OPERATOR", at.operator.to_string())
        .env("WEFT_ROOTS", dir.join("state/roots.pem"))
        .env("WEFT_TOKEN", token(service))
        .env("WEFT_ADMIN_ADDR", "127.0.0.1:0")
        .env("WEFT_HEALTH_ADDR", "127.0.0.1:0")
        .env("WEFT_METRICS_ADDR", "127.0.0.1:0")
        .env("WEFT_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(log(dir, service)?)
        .stderr(log(dir, &format!("{service}-err"))?)
        .spawn()
        .context("starting weft-proxy")
}

fn instances(at: &Addresses) -> Instances {
    let port = |peers| BTreeMap::from([("http".to_owned(), PortAddresses { app: at.origin, peers })]);
    let unused = SocketAddr::from(([127, 0, 0, 1], 0));
    let outbound = BTreeMap::from([("bench/origin:http".to_owned(), at.outbound)]);
    Instances {
        instances: vec![
            instance("load", port(unused), outbound),
            instance("origin", port(at.inbound), BTreeMap::new()),
            instance("plain", port(at.plain), BTreeMap::new()),
        ],
    }
}

fn instance(
    service: &str,
    ports: BTreeMap<String, PortAddresses>,
    outbound: BTreeMap<String, SocketAddr>,
) -> Instance {
    Instance {
        namespace: "bench".to_owned(),
        service: service.to_owned(),
        name: format!("{service}-0"),
        role: Role::Service,
        address: [127, 0, 0, 1].into(),
        ports,
        outbound,
        listeners: BTreeMap::new(),
        ready: true,
        meshed: true,
        zone: String::new(),
        account: String::new(),
        shared: false,
        token_sha256: Sha256::digest(token(service)).map(|byte| format!("{byte:02x}")).as_slice().concat(),
    }
}

/// Known to nobody else: the operator of this bench listens on loopback and lives for some minutes.
fn token(service: &str) -> String {
    format!("bench-{}-{service}", std::process::id())
}

fn log(dir: &Path, name: &str) -> Result<std::fs::File> {
    Ok(std::fs::File::create(dir.join(format!("{name}.log")))?)
}

/// Binaries of the same build as this one.
fn binary(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    anyhow::ensure!(path.exists(), "{} is not built: run `make bench`", path.display());
    Ok(path)
}
