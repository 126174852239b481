//! Two pods with real proxies, the operator beside them, and a stranger: `order` calls, `web` serves.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::network::{Namespace, Node, run};
use super::{app, talk};

const SOON: Duration = Duration::from_secs(30);
/// User that the rules leave alone beside the proxy's.
pub(crate) const SPARED_USER: &str = "4242";

/// The Service's addresses, and those of the instances of `web`.
pub(crate) const SERVICE: &str = "10.96.0.10:80";
pub(crate) const SERVICE_V6: &str = "[fd96::10]:80";
pub(crate) const WEB: &str = "10.77.2.2";
pub(crate) const OTHER_WEB: &str = "10.77.2.9";
/// Who is not of the mesh.
pub(crate) const STRANGER: &str = "10.77.3.2";

/// Everything; dropped, all of it ends.
pub(crate) struct Pods {
    pub(crate) order: Namespace,
    pub(crate) web: Namespace,
    pub(crate) stranger: Namespace,
    pub(crate) node: Node,
    processes: Vec<(String, Child)>,
    folder: tempfile::TempDir,
}

impl Pods {
    /// Everything running and ready, under this mode of mutual TLS.
    pub(crate) fn start(mode: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("weft-netns-").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let node = Node::new();
        let [order, web, stranger] = ["order", "web", "stranger"].map(Namespace::new);
        for (net, pod) in (1..).zip([&order, &web, &stranger]) {
            node.join(pod, net);
        }
        web.ip(&format!("address add {OTHER_WEB}/24 dev eth0"));
        let mut pods = Self { order, web, stranger, node, processes: Vec::new(), folder };
        pods.apps();
        pods.set_mode(mode);
        pods.set_instances(&[WEB, OTHER_WEB]);
        pods.operator();
        pods.proxy(
            "order",
            &[
                "--exclude-outbound=81",
                "--exclude-outbound-cidrs=10.96.0.20/32,fd96::20/128",
                &format!("--exclude-uids={SPARED_USER}"),
            ],
        );
        pods.proxy("web", &["--exclude-inbound=7001"]);
        pods.until("both proxies are ready", |pods| {
            [(&pods.order, "10.77.1.2:15021"), (&pods.web, "10.77.2.2:15021")]
                .iter()
                .all(|(pod, at)| talk::status_of(&talk::get(pod, at, "pod", "ready")) == 200)
        });
        pods
    }

    fn apps(&self) {
        for pod in [&self.web, &self.stranger] {
            app::http(pod, 8080);
            app::server_first(pod, 5432);
            app::echo(pod, 7000);
            app::echo(pod, 7001);
        }
    }

    /// Writes the manifests, as a user changes them.
    pub(crate) fn set_mode(&self, mode: &str) {
        let port = |number: u16, name: &str, target: u16| json!({"name": name, "port": number, "targetPort": target});
        let web = json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "Microservice", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "ports": [
                    {"name": "http", "port": 80, "targetPort": 8080, "protocol": "HTTP"},
                    {"name": "sql", "port": 5432, "protocol": "TCP"},
                ],
                "mtls": {"mode": mode},
            },
        });
        let order = json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "Microservice", "metadata": {"name": "order", "namespace": "shop"},
            "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "HTTP"}]},
        });
        let service = |name: &str, ips: [&str; 2], ports: Vec<Value>| {
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
                "spec": {"clusterIP": ips[0], "clusterIPs": ips, "ports": ports, "selector": {"app.kubernetes.io/name": "web"}},
            })
        };
        let own = vec![port(80, "http", 8080), port(81, "excluded", 8080), port(5432, "sql", 5432)];
        let objects = [
            web,
            order,
            service("web", ["10.96.0.10", "fd96::10"], own),
            service("spared", ["10.96.0.20", "fd96::20"], vec![port(80, "http", 8080)]),
        ];
        let text: Vec<String> = objects.iter().map(Value::to_string).collect();
        self.write("shop/mesh.yaml", &text.join("\n---\n"));
    }

    /// Says which addresses of `web` get traffic; both are there.
    pub(crate) fn set_instances(&self, ready: &[&str]) {
        let instance = |service: &str, name: &str, ip: &str, ports: Value, ready: bool| {
            let token = Sha256::digest(token(service)).iter().fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").unwrap();
                hex
            });
            json!({
                "namespace": "shop", "service": service, "name": name, "role": "Service", "address": ip,
                "ports": ports, "ready": ready, "tokenSha256": token,
            })
        };
        let at =
            |ip: &str, port: u16| json!({"app": format!("{ip}:{port}"), "peers": format!("{ip}:{port}")});
        let web = |ip: &str| json!({"http": at(ip, 8080), "sql": at(ip, 5432)});
        let all = json!({"instances": [
            instance("order", "order-0", "10.77.1.2", json!({"http": at("10.77.1.2", 8080)}), true),
            instance("web", "web-0", WEB, web(WEB), ready.contains(&WEB)),
            instance("web", "web-1", OTHER_WEB, web(OTHER_WEB), ready.contains(&OTHER_WEB)),
        ]});
        self.write("state/instances.json", &all.to_string());
    }

    /// Never seen half written.
    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let whole = self.folder.path().join("whole");
        fs::write(&whole, text).unwrap();
        fs::rename(whole, path).unwrap();
    }

    fn operator(&mut self) {
        let folder = self.folder.path().to_path_buf();
        let mut command = self.node.namespace.command(binary("weft-operator").to_str().unwrap());
        command.arg(format!("--source=dir:{}", folder.join("shop").display()));
        command.arg(format!("--state={}", folder.join("state").display()));
        command.args(["--grpc-addr=10.77.1.1:15012", "--admin-addr=127.0.0.1:15014"]);
        self.spawn("operator", command);
        self.until("the operator has made its roots", |pods| {
            pods.folder.path().join("state/roots.pem").exists()
        });
    }

    /// Redirects the pod's traffic, twice since that must do no harm, and starts its proxy as the proxy's user.
    fn proxy(&mut self, name: &str, exclude: &[&str]) {
        let pod = if name == "order" { &self.order } else { &self.web };
        let proxy = binary("weft-proxy");
        for _ in 0..2 {
            run(pod.command(proxy.to_str().unwrap()).args(exclude).arg("init"));
        }
        let mut command = pod.command("setpriv");
        command.args(["--reuid=1337", "--regid=1337", "--clear-groups"]).arg(&proxy).args([
            format!("--workload=shop/{name}"),
            format!("--account={name}"),
            format!("--instance={name}-0"),
            "--operator=10.77.1.1:15012".to_owned(),
            format!("--roots={}", self.folder.path().join("state/roots.pem").display()),
            "--outbound-addr=[::]:15001".to_owned(),
            "--inbound-addr=[::]:15006".to_owned(),
            "--workers=1".to_owned(),
            "--log-format=text".to_owned(),
        ]);
        command.env("WEFT_TOKEN", token(name));
        self.spawn(name, command);
    }

    fn spawn(&mut self, name: &str, mut command: Command) {
        let log = File::create(self.folder.path().join(format!("{name}.log"))).unwrap();
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        self.processes.push((name.to_owned(), child));
    }

    /// Kills one of `operator`, `order` and `web`.
    pub(crate) fn kill(&mut self, name: &str) {
        for (_, child) in self.processes.iter_mut().filter(|(running, _)| running == name) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Asks for termination, as the kubelet does, and says how long it takes.
    pub(crate) fn terminate(&mut self, name: &str) -> Duration {
        let (_, child) = self.processes.iter_mut().find(|(running, _)| running == name).unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        let asked = Instant::now();
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        child.wait().unwrap();
        asked.elapsed()
    }

    /// Waits for a condition.
    pub(crate) fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + SOON;
        while !condition(self) {
            assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap_or_default()
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        for (name, child) in &mut self.processes {
            drop(child.kill());
            drop(child.wait());
            if std::thread::panicking() {
                let log = fs::read_to_string(self.folder.path().join(format!("{name}.log")));
                eprintln!("---- {name}\n{}", log.unwrap_or_default());
            }
        }
    }
}

fn token(service: &str) -> String {
    format!("join-{service}")
}

fn binary(name: &str) -> PathBuf {
    let beside = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join(name);
    assert!(
        Path::new(&beside).exists(),
        "{} is not built: run cargo build --workspace --bins",
        beside.display()
    );
    beside
}
