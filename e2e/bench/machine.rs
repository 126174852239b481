//! What processes cost: CPU time and resident memory from /proc, of a process and its children, and how much CPU others
//! used meanwhile.

use std::fs;

use anyhow::{Context, Result};
use tokio::time::Instant;

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
