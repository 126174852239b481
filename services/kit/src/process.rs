//! What this process uses of the machine: memory and CPU, as /health shows them. Linux only, as the services are.

use std::{fs, sync::Mutex, thread, time::Duration};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};
use serde::Serialize;
use tokio::time::Instant;

/// Memory in bytes.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Memory {
    /// Resident memory of this process.
    pub used: u64,
    /// What it may use: the limit of its container, else the memory of the machine.
    pub total: u64,
    /// Used of total.
    pub percentage: f64,
}

/// CPU time used, measured between one reading and the next.
#[derive(Debug)]
pub struct Cpu {
    last: Mutex<(Instant, Duration)>,
}

impl Cpu {
    /// Starts measuring.
    pub fn new(now: Instant) -> Self {
        Self { last: Mutex::new((now, used())) }
    }

    /// Per cent of all cores used since the last reading.
    pub fn percentage(&self, now: Instant) -> f64 {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (since, before) = *last;
        let used = used();
        *last = (now, used);
        let wall = (now - since).as_secs_f64() * f64::from(u32::try_from(cores).unwrap_or(u32::MAX));
        let share = used.saturating_sub(before).as_secs_f64() / wall;
        if share.is_finite() { round(share * 100.0) } else { 0.0 }
    }
}

fn used() -> Duration {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Duration::ZERO };
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

/// Memory used and available now.
pub fn memory() -> Memory {
    let used = kilobytes("/proc/self/status", "VmRSS:").unwrap_or_default();
    let machine = kilobytes("/proc/meminfo", "MemTotal:").unwrap_or_default();
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = limits.iter().find_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    let total = limit.map_or(machine, |limit| limit.min(machine));
    Memory { used, total, percentage: round(ratio(used, total) * 100.0) }
}

fn kilobytes(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.trim().trim_end_matches(" kB").parse::<u64>().ok().map(|kb| kb * 1024)
}

#[expect(clippy::cast_precision_loss, reason = "a share of memory needs no 53 bits")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_a_share_of_what_there_is() {
        let memory = memory();
        assert!(memory.used > 0 && memory.used < memory.total, "{memory:?}");
        assert!(memory.percentage < 100.0, "{memory:?}");
    }

    #[test]
    fn cpu_is_a_share_of_the_time_that_passed() {
        let start = Instant::now();
        let cpu = Cpu::new(start);
        assert!(cpu.percentage(start) < f64::EPSILON, "no time has passed");
        assert!((0.0..=100.0).contains(&cpu.percentage(start + Duration::from_mins(1))));
    }
}
