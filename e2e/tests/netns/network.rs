//! Network namespaces: made, joined, entered, and taken away however the test ends.

use std::fs::File;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

/// A network namespace. Dropping it deletes it.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// A new one with loopback up. Its name says of which process it is.
    pub(crate) fn new(role: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("weft-{}-{next}-{role}", std::process::id());
        ip(&format!("netns add {name}"));
        let namespace = Self { name };
        // Addresses are used at once; nobody else could have them.
        namespace.sysctl("net.ipv6.conf.default.accept_dad=0");
        namespace.ip("link set lo up");
        // Ports of the proxy are never somebody's ephemeral ones.
        namespace.sysctl("net.ipv4.ip_local_port_range=20000 65000");
        namespace
    }

    /// Runs `ip` in it.
    pub(crate) fn ip(&self, args: &str) {
        ip(&format!("-n {} {args}", self.name));
    }

    pub(crate) fn sysctl(&self, setting: &str) {
        run(self.command("sysctl").args(["-q", "-w", setting]));
    }

    /// A command that runs in it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]).stdin(Stdio::null());
        command
    }

    /// Does this on a thread in it.
    pub(crate) fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let entered = || {
            self.enter();
            act()
        };
        std::thread::scope(|scope| match scope.spawn(entered).join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Moves this thread into it.
    pub(crate) fn enter(&self) {
        setns(File::open(format!("/run/netns/{}", self.name)).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(Command::new("ip").args(["netns", "delete", &self.name]).status());
    }
}

/// A node that routes between what is joined to it.
pub(crate) struct Node {
    pub(crate) namespace: Namespace,
}

impl Node {
    pub(crate) fn new() -> Self {
        let namespace = Namespace::new("node");
        namespace.sysctl("net.ipv4.ip_forward=1");
        namespace.sysctl("net.ipv6.conf.all.forwarding=1");
        // Addresses of Services: whoever is not redirected learns at once that nobody is there.
        namespace.ip("route add unreachable 10.96.0.0/16");
        namespace.ip("-6 route add unreachable fd96::/64");
        Self { namespace }
    }

    /// Joins a namespace as net number `net`: it is `10.77.<net>.2` and `fd77:<net>::2`, the node `.1`.
    pub(crate) fn join(&self, pod: &Namespace, net: u8) {
        let node = &self.namespace;
        node.ip(&format!("link add pod{net} type veth peer name eth0 netns {}", pod.name));
        node.ip(&format!("address add 10.77.{net}.1/24 dev pod{net}"));
        node.ip(&format!("address add fd77:{net}::1/64 dev pod{net} nodad"));
        node.ip(&format!("link set pod{net} up"));
        pod.ip(&format!("address add 10.77.{net}.2/24 dev eth0"));
        pod.ip(&format!("address add fd77:{net}::2/64 dev eth0 nodad"));
        pod.ip("link set eth0 up");
        pod.ip(&format!("route add default via 10.77.{net}.1"));
        pod.ip(&format!("-6 route add default via fd77:{net}::1"));
    }
}

/// Whether this machine lets tests make namespaces. Says why not.
pub(crate) fn possible() -> bool {
    let why = if !nix::unistd::geteuid().is_root() {
        "not root"
    } else if !has("ip") || !has("nft") {
        "`ip` or `nft` is not installed (./setup.sh servers)"
    } else {
        return true;
    };
    eprintln!("SKIPPED: no network namespaces here: {why}");
    false
}

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

fn ip(args: &str) {
    run(Command::new("ip").args(args.split(' ')));
}

/// Runs a command that must succeed.
pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
