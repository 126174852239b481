//! What the process itself costs, read from `/proc/self` when metrics are scraped. Names and units are those of every
//! Prometheus client (`process_*`), so that existing dashboards work.

use std::fs;

use nix::unistd::{SysconfVar, sysconf};

/// Resources of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Resident set, bytes.
    pub resident_bytes: u64,
    /// Processor time, user and system, seconds.
    pub cpu_seconds: f64,
    /// Open file descriptors.
    pub open_fds: u64,
}

/// Reads the usage; what cannot be read is 0.
pub fn usage() -> Usage {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let (ticks, pages) = parse_stat(&stat).unwrap_or_default();
    Usage {
        resident_bytes: pages * system_value(SysconfVar::PAGE_SIZE),
        #[expect(clippy::cast_precision_loss, reason = "a count of clock ticks, far below 2^52")]
        cpu_seconds: ticks as f64 / system_value(SysconfVar::CLK_TCK).max(1) as f64,
        open_fds: fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
    }
}

fn system_value(name: SysconfVar) -> u64 {
    sysconf(name).ok().flatten().and_then(|value| u64::try_from(value).ok()).unwrap_or(0)
}

/// Clock ticks used and resident pages from `/proc/<pid>/stat` (proc(5)); the command name may hold spaces and
/// parentheses, so fields are counted from the last `)`.
fn parse_stat(stat: &str) -> Option<(u64, u64)> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some((number(11)? + number(12)?, number(21)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 4 0 100 1000000 321 1844674407 1";
        assert_eq!(parse_stat(stat), Some((200, 321)));
    }

    #[test]
    fn this_process_uses_memory_and_descriptors() {
        let usage = usage();
        assert!(usage.resident_bytes > 0 && usage.open_fds > 0);
    }
}
