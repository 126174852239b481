//! The example shop with real processes: `weft run`, its tour, and what happens when parts of it die.
//!
//! Needs the workspace's binaries beside the test (`cargo build --workspace --bins`), PostgreSQL and Redis on PATH. One
//! test, since the shop has one gateway address.
#![expect(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod rush;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};

const START: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(30);

/// A running `weft run` of a copy of the example, its gateway on free ports; ended with everything under it when
/// dropped.
struct Shop {
    weft: PathBuf,
    dir: tempfile::TempDir,
    gateway: String,
    supervisor: Child,
}

impl Drop for Shop {
    fn drop(&mut self) {
        if matches!(self.supervisor.try_wait(), Ok(None)) {
            signal(self.supervisor.id(), nix::sys::signal::Signal::SIGTERM);
            drop(self.supervisor.wait());
        }
    }
}

impl Shop {
    async fn start() -> Self {
        let bin = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_path_buf();
        let weft = bin.join("weft");
        assert!(weft.exists(), "{} is not built: run cargo build --workspace --bins", weft.display());
        let dir = tempfile::Builder::new().prefix("weft-shop-").tempdir().unwrap();
        // PostgreSQL runs as another user where this runs as root, and must reach its folder.
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let [http, https] = free_ports();
        copy_example(&dir.path().join("shop"), http, https);
        let log = fs::File::create(dir.path().join("run.log")).unwrap();
        let supervisor = Command::new(&weft)
            .args(["run", "--state"])
            .arg(dir.path().join("state"))
            .arg(dir.path().join("shop"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut shop = Self { weft, dir, gateway: format!("http://127.0.0.1:{http}"), supervisor };
        shop.until("the shop is ready", START, |shop| shop.state().join("ready.json").exists()).await;
        shop
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn weft(&self, args: &[&str]) -> Output {
        Command::new(&self.weft).args(args).arg("--state").arg(self.state()).output().unwrap()
    }

    fn status(&self) -> Value {
        let output = self.weft(&["status", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    fn curl(&self, args: &[&str], path: &str) -> String {
        let url = format!("{}{path}", self.gateway);
        let output = Command::new("curl").args(["-s", "-i", "-m", "5"]).args(args).arg(url).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Status of a GET; 0 without an answer.
    fn get(&self, path: &str) -> u16 {
        let answer = self.curl(&[], path);
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    /// Only the service itself can say that these credentials are wrong.
    fn login_is_refused_with_401(&self) -> bool {
        let body = r#"{"email":"nobody@shop.example","password":"wrong password"}"#;
        let answer = self.curl(&["-H", "content-type: application/json", "-d", body], "/api/users/login");
        answer.starts_with("HTTP/1.1 401") && answer.contains("x-served-by")
    }

    /// Waits for a condition; ends with the supervisor's log when it does not come.
    async fn until(&mut self, what: &str, limit: Duration, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + limit;
        while !condition(self) {
            let ended = self.supervisor.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "not within {limit:?}: {what} (supervisor: {ended:?})\n{}",
                fs::read_to_string(self.dir.path().join("run.log")).unwrap_or_default()
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The services that it runs.
    fn services(&self) -> BTreeSet<String> {
        let plan = fs::read_to_string(self.state().join("plan.json")).unwrap();
        let plan: Value = serde_json::from_str(&plan).unwrap();
        let places = plan["places"].as_object().unwrap().iter();
        let serving = places.filter(|(_, place)| !place["ports"]["app:http"].is_null());
        serving.map(|(instance, _)| instance.rsplit_once('-').unwrap().0.to_owned()).collect()
    }

    /// Everything under the supervisor.
    fn processes(&self) -> BTreeSet<u32> {
        let mut found = BTreeSet::from([self.supervisor.id()]);
        loop {
            let more: BTreeSet<u32> =
                parents().filter(|(_, parent)| found.contains(parent)).map(|(pid, _)| pid).collect();
            if more.is_subset(&found) {
                found.remove(&self.supervisor.id());
                return found;
            }
            found.extend(more);
        }
    }

    /// Those that run this program.
    fn program(&self, name: &str) -> Vec<u32> {
        // What is started as redis-server may be a link to another file.
        let is = |pid: &u32| {
            let exe = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            let called = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            exe.file_name().is_some_and(|file| file == name) || called.trim_end() == name
        };
        self.processes().into_iter().filter(is).collect()
    }
}

/// Every process of the machine with its parent.
fn parents() -> impl Iterator<Item = (u32, u32)> {
    fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // pid (name) state ppid; the name may hold spaces and parentheses.
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        Some((pid, parent))
    })
}

fn copy_example(to: &Path, http: u16, https: u16) {
    fs::create_dir(to).unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples/shop");
    for entry in fs::read_dir(example).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    // A breaker that stays open for 10 s after each death would leave the rush nothing to do.
    for service in ["ticket", "order", "payment"] {
        replace(&to.join(service).with_extension("yaml"), "openFor: 10s", "openFor: 1s");
    }
    let run = to.join("weft.yaml");
    replace(&run, "  public:\n", &format!("  public:\n    ports: {{http: {http}, https: {https}}}\n"));
    // Nor need it wait for a minute until what was half placed when order died is given up.
    let order = "    command: [shop-order]\n    env:\n";
    replace(&run, order, &format!("{order}      REQUEST_TIMEOUT: 4s\n      ABANDONED_AFTER: 5s\n"));
}

fn replace(file: &Path, what: &str, with: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(what), "{} has {what:?}", file.display());
    fs::write(file, text.replacen(what, with, 1)).unwrap();
}

fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn signal(pid: u32, signal: nix::sys::signal::Signal) {
    // It may have ended by itself meanwhile.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.try_into().unwrap()), signal).ok();
}

#[tokio::test]
async fn the_shop_runs_passes_its_tour_survives_deaths_and_leaves_nothing() {
    let mut shop = Shop::start().await;
    tour(&shop);
    operator_dies_and_traffic_goes_on(&mut shop).await;
    what_dies_is_restarted(&mut shop).await;
    rush::books_balance_whatever_dies(&mut shop).await;
    bad_manifests_are_named(&shop);
    let before = shop.processes();
    assert!(before.len() > 10, "{before:?}");
    signal(shop.supervisor.id(), nix::sys::signal::Signal::SIGTERM);
    let ended = shop.supervisor.wait().unwrap();
    assert!(ended.success(), "{ended}");
    let alive: BTreeSet<u32> = parents().map(|(pid, _)| pid).collect();
    let left: Vec<_> = before.intersection(&alive).collect();
    assert!(left.is_empty(), "processes left behind: {left:?}");
}

fn tour(shop: &Shop) {
    let output = Command::new(shop.dir.path().join("shop/tour.sh"))
        .arg(&shop.gateway)
        .env("WEFT", &shop.weft)
        .env("WEFT_STATE", shop.state())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
}

async fn operator_dies_and_traffic_goes_on(shop: &mut Shop) {
    let old = shop.program("weft-operator");
    assert_eq!(old.len(), 1, "one operator");
    signal(old[0], nix::sys::signal::Signal::SIGKILL);
    for _ in 0..20 {
        assert_eq!(shop.get("/api/products?per_page=1"), 200, "traffic goes on without the operator");
    }
    shop.until("the operator is back", SOON, |shop| {
        let new = shop.program("weft-operator");
        new.len() == 1 && new != old
    })
    .await;
    shop.until("every proxy is connected again", SOON, |shop| {
        let text = shop.status().to_string();
        text.contains("\"connected\":true") && !text.contains("\"connected\":false")
    })
    .await;
    assert_eq!(shop.get("/api/products?per_page=1"), 200);
}

async fn what_dies_is_restarted(shop: &mut Shop) {
    let old = shop.program("shop-user");
    for pid in &old {
        signal(*pid, nix::sys::signal::Signal::SIGKILL);
    }
    shop.until("user is back and known to its callers", SOON, |shop| {
        let new = shop.program("shop-user");
        !new.is_empty() && new != old && shop.get("/api/users/me") == 401 && shop.login_is_refused_with_401()
    })
    .await;
}

fn bad_manifests_are_named(shop: &Shop) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.yaml");
    let text = "apiVersion: weft.dev/v1alpha1\nkind: Microservice\nmetadata: {name: a}\nspec:\n  ports:\n  - name: http\n    port: 99999\n    protocl: HTTP\n";
    fs::write(&file, text).unwrap();
    let output = Command::new(&shop.weft).arg("check").arg(&file).output().unwrap();
    assert!(!output.status.success());
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for expected in ["bad.yaml:7:", "spec.ports[0].port", "bad.yaml:8:", "protocl", "protocol"] {
        assert!(said.contains(expected), "`{expected}` is not in:\n{said}");
    }
}
