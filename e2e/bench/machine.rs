//! What processes cost: CPU time and resident memory from /proc, of a process and its children, and how much CPU others
//! used meanwhile; and whether the system has room for what a load needs.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::{Instant, sleep};

/// Ticks per second of /proc's times: `USER_HZ`, 100 on every Linux that Weft runs on.
const USER_HZ: f64 = 100.0;

/// CPU used between start and stop.
pub(crate) struct Cpu {
    /// Seconds, by the processes watched.
    pub(crate) seconds: f64,
    /// Share of the whole machine that neither they, their peers of this bench nor this process used, in percent.
    pub(crate) others_percent: f64,
}

/// Measures the CPU of the proxies (what counts) apart from the rest of the bench.
pub(crate) struct CpuClock {
    proxies: Vec<u32>,
    begun: Instant,
    proxies_before: f64,
    bench_before: f64,
    machine_before: f64,
}

impl CpuClock {
    pub(crate) fn start(proxies: &[u32]) -> Result<Self> {
        Ok(Self {
            proxies: proxies.to_vec(),
            begun: Instant::now(),
            proxies_before: cpu_seconds(proxies)?,
            bench_before: cpu_seconds(&[std::process::id()])?,
            machine_before: machine_seconds()?,
        })
    }

    pub(crate) fn stop(self) -> Result<Cpu> {
        let elapsed = self.begun.elapsed().as_secs_f64();
        // Everything this bench started is its child, so its own tree holds the proxies and the origin too.
        let bench = cpu_seconds(&[std::process::id()])? - self.bench_before;
        let machine = machine_seconds()? - self.machine_before;
        let cores = std::thread::available_parallelism()?.get() as f64;
        Ok(Cpu {
            seconds: cpu_seconds(&self.proxies)? - self.proxies_before,
            others_percent: ((machine - bench) / (elapsed * cores) * 100.0).max(0.0),
        })
    }
}

/// Share of the system's table of tracked connections that may be in use when a measurement begins.
const TRACKED: f64 = 0.3;
/// Longer than the table remembers a connection that has ended (120 s).
const FORGOTTEN: Duration = Duration::from_mins(4);

/// Waits until the system has forgotten enough of the connections that have ended. Where a firewall tracks connections,
/// Docker's for example, and its table is full, it drops whatever begins another one, and no proxy would answer.
pub(crate) async fn room_for_connections(mut note: impl FnMut(&str)) -> Result<()> {
    let deadline = Instant::now() + FORGOTTEN;
    let mut said = false;
    while tracked().is_some_and(|share| share > TRACKED) {
        if !std::mem::replace(&mut said, true) {
            note("the system's table of tracked connections fills up: waiting until it has forgotten some");
        }
        ensure!(
            Instant::now() < deadline,
            "the system's table of tracked connections stays full: raise net.netfilter.nf_conntrack_max, or end what \
             makes it track them (Docker's engine, a firewall)"
        );
        sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// How full that table is; none where the system keeps none.
fn tracked() -> Option<f64> {
    let read = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/netfilter/nf_conntrack_{name}")).ok()?;
        text.trim().parse::<f64>().ok()
    };
    Some(read("count")? / read("max")?)
}

/// Resident memory of processes and their children, in MiB.
pub(crate) fn memory_mib(processes: &[u32]) -> Result<f64> {
    let mut kib = 0.0;
    for pid in tree(processes)? {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        kib += line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or_default();
    }
    Ok(kib / 1024.0)
}

fn cpu_seconds(processes: &[u32]) -> Result<f64> {
    let mut ticks = 0.0;
    for pid in tree(processes)? {
        // A process may end between listing and reading.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let fields = fields_after_name(&stat).context("reading /proc/PID/stat")?;
        ticks += fields.get(11).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
        ticks += fields.get(12).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
    }
    Ok(ticks / USER_HZ)
}

fn machine_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|text| text.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal
    let busy = [0, 1, 2, 5, 6, 7].iter().filter_map(|at| ticks.get(*at)).sum::<f64>();
    Ok(busy / USER_HZ)
}

/// The processes and all their descendants.
fn tree(roots: &[u32]) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let parent = fields_after_name(&stat).and_then(|fields| fields.get(1)?.parse::<u32>().ok());
        parents.push((pid, parent.unwrap_or_default()));
    }
    let mut found = roots.to_vec();
    let mut at = 0;
    while let Some(&pid) = found.get(at) {
        found.extend(parents.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| *child));
        at += 1;
    }
    Ok(found)
}

/// The name in parentheses may hold spaces; what follows it does not.
fn fields_after_name(stat: &str) -> Option<Vec<&str>> {
    Some(stat.rsplit_once(')')?.1.split_whitespace().collect())
}
