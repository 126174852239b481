//! `weft logs`: the log files of a run, chosen by name, each line with the name of its process in front. With `-f` it
//! goes on with what is added.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::control;
use crate::run::logfile::rotated;
use crate::run::terminal::print_line;
use crate::settings::LogsArgs;
use crate::state::State;
use crate::suggest;

/// Between two looks for new lines.
const EVERY: Duration = Duration::from_millis(200);

/// Prints logs.
pub(crate) async fn run(args: &LogsArgs) -> Result<ExitCode> {
    let state = control::find(&args.state)?;
    let mut logs = choose(&state, args)?;
    let width = logs.iter().map(|log| log.name.len()).max().unwrap_or_default();
    for log in &mut logs {
        let lines = log.all_lines()?;
        let skip = args.lines.map_or(0, |last| lines.len().saturating_sub(last));
        log.print(lines.get(skip..).unwrap_or_default(), width);
    }
    if args.follow { follow(logs, width).await } else { Ok(ExitCode::SUCCESS) }
}

/// Prints what is added, until the command is ended.
async fn follow(mut logs: Vec<Log>, width: usize) -> Result<ExitCode> {
    loop {
        tokio::time::sleep(EVERY).await;
        for log in &mut logs {
            let lines = log.new_lines()?;
            log.print(&lines, width);
        }
    }
}

struct Log {
    name: String,
    path: PathBuf,
    read: u64,
}

impl Log {
    fn all_lines(&mut self) -> Result<Vec<String>> {
        let older =
            File::open(rotated(&self.path)).ok().map(|file| lines(file, u64::MAX).0).unwrap_or_default();
        let newer = self.new_lines()?;
        Ok(older.into_iter().chain(newer).collect())
    }

    fn print(&self, lines: &[String], width: usize) {
        for line in lines {
            print_line(&format!("{:width$} | {line}", self.name));
        }
    }

    /// Whole lines that were added since the last look.
    fn new_lines(&mut self) -> Result<Vec<String>> {
        let Ok(mut file) = File::open(&self.path) else { return Ok(Vec::new()) };
        let size = file.metadata()?.len();
        if size < self.read {
            // It was rotated and begins anew.
            self.read = 0;
        }
        file.seek(SeekFrom::Start(self.read))
            .with_context(|| format!("cannot read {}", self.path.display()))?;
        let (lines, bytes) = lines(file, size - self.read);
        self.read += bytes;
        Ok(lines)
    }
}

/// The whole lines in the next `limit` bytes, and how many bytes they are.
fn lines(file: File, limit: u64) -> (Vec<String>, u64) {
    let mut reader = BufReader::new(file.take(limit));
    let (mut lines, mut bytes, mut line) = (Vec::new(), 0, Vec::new());
    while let Ok(read) = reader.read_until(b'\n', &mut line) {
        if read == 0 || line.last() != Some(&b'\n') {
            break;
        }
        bytes += read as u64;
        lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
        line.clear();
    }
    (lines, bytes)
}

/// The logs that the names mean: `order` is all of `order-0`, `order-0.proxy`, `order-1`, …
fn choose(state: &State, args: &LogsArgs) -> Result<Vec<Log>> {
    let known = known_logs(&state.path("logs"));
    let known = known.with_context(|| format!("there are no logs in {}", state.root().display()))?;
    for name in &args.names {
        if !known.iter().any(|log| means(name, log)) {
            let units = known.iter().map(|log| log.strip_suffix(".proxy").unwrap_or(log));
            let services = units.clone().filter_map(|unit| unit.rsplit_once('-').map(|(service, _)| service));
            let hint = suggest::hint(name, services.chain(units));
            bail!("there is no log of `{name}`{hint} (there are: {})", known.join(", "));
        }
    }
    let wanted = |log: &&String| {
        let proxy = log.strip_suffix(".proxy").is_some();
        let side = if proxy { !args.apps } else { !args.proxies };
        side && (args.names.is_empty() || args.names.iter().any(|name| means(name, log)))
    };
    let open = |name: &String| Log { name: name.clone(), path: state.log(name), read: 0 };
    Ok(known.iter().filter(wanted).map(open).collect())
}

fn means(name: &str, log: &str) -> bool {
    let unit = log.strip_suffix(".proxy").unwrap_or(log);
    let service =
        unit.rsplit_once('-').filter(|(_, number)| number.parse::<u32>().is_ok()).map(|(service, _)| service);
    log == name || unit == name || service == Some(name)
}

fn known_logs(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names: Vec<String> = fs::read_dir(folder)?
        .flatten()
        .filter_map(|entry| {
            entry.file_name().to_str().and_then(|name| name.strip_suffix(".log")).map(str::to_owned)
        })
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_its_instances_and_their_proxies() {
        for (name, log, expect) in [
            ("order", "order-0", true),
            ("order", "order-12.proxy", true),
            ("order-0", "order-0.proxy", true),
            ("order-0.proxy", "order-0.proxy", true),
            ("order-0.proxy", "order-0", false),
            ("order", "order-history-0", false),
            ("postgres", "postgres", true),
        ] {
            assert_eq!(means(name, log), expect, "{name} {log}");
        }
    }

    #[test]
    fn new_lines_are_read_once_and_only_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let mut log = Log { name: "a".into(), path: path.clone(), read: 0 };
        fs::write(&path, "one\ntw").unwrap();
        assert_eq!(log.new_lines().unwrap(), ["one"]);
        fs::write(&path, "one\ntwo\n").unwrap();
        assert_eq!(log.new_lines().unwrap(), ["two"]);
        fs::write(&path, "new\n").unwrap();
        assert_eq!(log.new_lines().unwrap(), ["new"]);
    }
}
