//! Where the output of child processes goes: one file per process, bounded by rotation, and on wish the terminal.
//! Knows bytes and lines, not what they say.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

use super::terminal::Terminal;

/// A file is renamed to `<name>.log.1` when it gets larger, replacing the one before.
const LARGEST: u64 = 16 << 20;
/// A longer line is cut into pieces of this size.
const LONGEST_LINE: u64 = 64 << 10;

/// One log file; clones write to the same.
#[derive(Clone, Debug)]
pub(crate) struct LogFile {
    open: Arc<Mutex<Open>>,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
    size: u64,
}

impl LogFile {
    /// Opens the file to append.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self { open: Arc::new(Mutex::new(Open { path: path.to_owned(), file, size })) })
    }

    /// Appends a piece. A write to the page cache is shorter than a hop to another thread, so it happens right here.
    pub(crate) fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.rotate_when_full()?;
        open.file.write_all(bytes)?;
        open.size += bytes.len() as u64;
        Ok(())
    }
}

impl Open {
    fn rotate_when_full(&mut self) -> io::Result<()> {
        if self.size < LARGEST {
            return Ok(());
        }
        fs::rename(&self.path, rotated(&self.path))?;
        self.file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

/// Where the older half of a log is.
pub(crate) fn rotated(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

/// The last lines of a log; none where it cannot be read.
pub(crate) fn last_lines(path: &Path, count: usize) -> Vec<String> {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(count)).map(|line| (*line).to_owned()).collect()
}

/// Copies what a process writes, line by line, until it closes its end.
pub(crate) async fn pump(from: impl AsyncRead + Unpin, log: LogFile, tail: Option<(Arc<Terminal>, String)>) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut from).take(LONGEST_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        if let Err(error) = log.append(&line) {
            // The disk is full or the folder gone: the process must not stand still because of its log.
            line = format!("log lost: {error}\n").into_bytes();
        }
        if let Some((terminal, name)) = &tail {
            terminal.say(&format!("{name} | {}", String::from_utf8_lossy(&line).trim_end()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_appended_and_the_last_one_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let log = LogFile::open(&path).unwrap();
        pump(&b"one\ntwo"[..], log.clone(), None).await;
        pump(&b"three\n"[..], log, None).await;
        assert_eq!(fs::read_to_string(path).unwrap(), "one\ntwo\nthree\n");
    }

    #[test]
    fn a_full_file_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        fs::write(&path, vec![b'x'; usize::try_from(LARGEST).unwrap()]).unwrap();
        LogFile::open(&path).unwrap().append(b"new\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
        assert_eq!(fs::metadata(rotated(&path)).unwrap().len(), LARGEST);
    }
}
