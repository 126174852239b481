//! Weft's side: the real operator reading a directory, and real proxies that get identity and configuration from it, with
//! what a request of a mesh meets switched on: JWT, authorization, breaker, metrics, traces of 1 %.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::process::{Child, Command};
use weft_core::instances::{Instance, Instances, PortAddresses, Role};
use weft_core::world::Name;
use weft_e2e::mesh;
use weft_e2e::tokens::{AUDIENCE, ISSUER, Issuer, now};

use crate::rivals::{Origins, WORKERS, start};

/// What the manifests say; the keys and the certificate at the edge are of this run.
const MANIFESTS: &str = r#"
apiVersion: weft.dev/v1alpha1
kind: Mesh
metadata: {name: default}
spec:
  tracing: {otlp: "http://@TRACES@", sampling: 0.01}
---
apiVersion: weft.dev/v1alpha1
kind: Microservice
metadata: {name: origin, namespace: bench}
spec:
  ports:
  - {name: http, port: 80, targetPort: 8080, protocol: HTTP}
  - {name: http2, port: 81, targetPort: 8081, protocol: HTTP2}
  - {name: grpc, port: 82, targetPort: 8082, protocol: GRPC}
  - {name: websocket, port: 83, targetPort: 8083, protocol: HTTP}
  authentication:
    jwt:
    - issuer: @ISSUER@
      audiences: [@AUDIENCE@]
      jwks: {inline: '@JWKS@'}
      claimHeaders: {sub: x-user-id}
    required: true
  authorization:
    default: Deny
    rules:
    - name: load
      from: {services: [load, edge]}
      to: {methods: [GET, POST], paths: ["/*"]}
      when: {claims: {role: [customer]}}
  resilience:
    timeout: 5s
    circuitBreaker: {consecutiveFailures: 5, openFor: 60s}
  telemetry: {tracing: {sampling: 0.01}}
---
apiVersion: weft.dev/v1alpha1
kind: Microservice
metadata: {name: load, namespace: bench}
spec:
  ports: [{name: http, port: 80, targetPort: 8080, protocol: HTTP}]
  telemetry: {tracing: {sampling: 0.01}}
---
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {name: edge, namespace: bench}
stringData:
  tls.crt: @CRT@
  tls.key: @KEY@
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: bench}
spec:
  gatewayClassName: weft
  listeners:
  - {name: https, port: 8443, protocol: HTTPS, tls: {certificateRefs: [{name: edge}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: all, namespace: bench}
spec:
  parentRefs: [{name: edge}]
  rules:
  - backendRefs: [{name: origin, port: 80}]
"#;

/// Weft on this machine: its processes and where the load reaches them.
pub(crate) struct Weft {
    pub(crate) operator: Child,
    /// Beside the load.
    pub(crate) client: Child,
    /// Beside the origin.
    pub(crate) server: Child,
    pub(crate) gateway: Child,
    pub(crate) http1: SocketAddr,
    pub(crate) http2: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) websocket: SocketAddr,
    /// The gateway's listener.
    pub(crate) tls: SocketAddr,
}

/// Variables and their values.
pub(crate) type Environment = &'static [(&'static str, &'static str)];

/// What a Weft is started with.
pub(crate) struct Plan<'a> {
    /// Folder with the certificate at the edge.
    pub(crate) dir: &'a Path,
    /// Tells the processes of two Wefts apart.
    pub(crate) name: &'static str,
    pub(crate) issuer: &'a Issuer,
    pub(crate) origins: Origins,
    pub(crate) traces: SocketAddr,
    /// Of the proxies, beside what they need.
    pub(crate) environment: Environment,
}

/// Where things listen that only Weft itself calls.
struct Inside {
    operator: SocketAddr,
    http1: SocketAddr,
    http2: SocketAddr,
    grpc: SocketAddr,
    websocket: SocketAddr,
}

/// A token that is good for as long as any run takes.
pub(crate) fn user_token(issuer: &Issuer) -> String {
    let now = now();
    let claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "role": "customer", "iat": now, "exp": now + 24 * 3600,
    });
    issuer.sign(&claims)
}

/// Starts operator and proxies.
pub(crate) fn weft(plan: &Plan<'_>) -> Result<Weft> {
    let [http1, http2, grpc, websocket, tls] = crate::paths::free_ports()?;
    let inside = crate::paths::free_ports()?;
    let [operator, a, b, c, d] = inside;
    let inside = Inside { operator, http1: a, http2: b, grpc: c, websocket: d };
    let outbound = [("http", http1), ("http2", http2), ("grpc", grpc), ("websocket", websocket)]
        .map(|(port, listen)| (format!("bench/origin:{port}"), listen));
    let instances = vec![
        Instance { outbound: outbound.into(), ..instance("load", Role::Service) },
        Instance { ports: ports(&plan.origins, &inside), ..instance("origin", Role::Service) },
        Instance { listeners: [("https".to_owned(), tls)].into(), ..instance("edge", Role::Gateway) },
    ];
    let operator = operator_process(plan, &inside, instances)?;
    Ok(Weft {
        operator,
        client: proxy(plan, &inside, "load")?,
        server: proxy(plan, &inside, "origin")?,
        gateway: proxy(plan, &inside, "edge")?,
        http1,
        http2,
        grpc,
        websocket,
        tls,
    })
}

fn operator_process(plan: &Plan<'_>, inside: &Inside, instances: Vec<Instance>) -> Result<Child> {
    let dir = plan.dir.join(plan.name);
    let (manifests, state) = (dir.join("manifests"), dir.join("state"));
    std::fs::create_dir_all(&manifests)?;
    std::fs::create_dir_all(&state)?;
    std::fs::write(manifests.join("bench.yaml"), manifest(plan)?)?;
    std::fs::write(state.join("instances.json"), serde_json::to_vec(&Instances { instances })?)?;
    let mut command = Command::new(binary("weft-operator")?);
    command.arg("--source").arg(format!("dir:{}", manifests.display())).arg("--state").arg(&state);
    command.args([
        "--grpc-addr",
        &inside.operator.to_string(),
        "--admin-addr",
        "127.0.0.1:0",
        "--log",
        "warn",
    ]);
    start(plan.dir, &format!("{}-operator", plan.name), &mut command)
}

fn manifest(plan: &Plan<'_>) -> Result<String> {
    // JSON is YAML: a quoted string keeps its line ends.
    let pem = |name: &str| anyhow::Ok(json!(std::fs::read_to_string(plan.dir.join(name))?).to_string());
    Ok(MANIFESTS
        .replace("@TRACES@", &plan.traces.to_string())
        .replace("@ISSUER@", ISSUER)
        .replace("@AUDIENCE@", AUDIENCE)
        .replace("@JWKS@", &plan.issuer.jwks())
        .replace("@CRT@", &pem("edge.crt")?)
        .replace("@KEY@", &pem("edge.key")?))
}

/// The proxy beside one service, or the gateway.
fn proxy(plan: &Plan<'_>, inside: &Inside, service: &str) -> Result<Child> {
    let mut command = Command::new(binary("weft-proxy")?);
    if service == "edge" {
        command.arg("gateway");
    }
    command
        .env("WEFT_WORKLOAD", format!("bench/{service}"))
        .env("WEFT_ACCOUNT", service)
        .env("WEFT_INSTANCE", format!("{service}-0"))
        .env("WEFT_OPERATOR", inside.operator.to_string())
        .env("WEFT_ROOTS", plan.dir.join(plan.name).join("state/roots.pem"))
        .env("WEFT_TOKEN", token(service))
        .env("WEFT_WORKERS", WORKERS.to_string())
        .env("WEFT_ADMIN_ADDR", "127.0.0.1:0")
        .env("WEFT_HEALTH_ADDR", "127.0.0.1:0")
        .env("WEFT_METRICS_ADDR", "127.0.0.1:0")
        .env("WEFT_LOG", "warn")
        .envs(plan.environment.iter().copied());
    start(plan.dir, &format!("{}-{service}", plan.name), &mut command)
}

fn ports(origins: &Origins, inside: &Inside) -> BTreeMap<String, PortAddresses> {
    let port = |name: &str, app, peers| (name.to_owned(), PortAddresses { app, peers });
    BTreeMap::from([
        port("http", origins.http1, inside.http1),
        port("http2", origins.http2, inside.http2),
        port("grpc", origins.http2, inside.grpc),
        port("websocket", origins.websocket, inside.websocket),
    ])
}

fn instance(service: &str, role: Role) -> Instance {
    let (workload, name) = (Name::new("bench", service), format!("{service}-0"));
    Instance {
        token_sha256: Sha256::digest(token(service)).map(|byte| format!("{byte:02x}")).as_slice().concat(),
        ..mesh::instance(workload, &name, role, Ipv4Addr::LOCALHOST.into())
    }
}

/// Known to nobody else: the operator of this bench listens on loopback and lives for some minutes.
fn token(service: &str) -> String {
    format!("bench-{}-{service}", std::process::id())
}

/// Binaries of the same build as this one.
fn binary(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe().context("where this program is")?.with_file_name(name);
    anyhow::ensure!(path.exists(), "{} is not built: run `make bench`", path.display());
    Ok(path)
}
