//! The access log: one line of JSON per request or raw connection on standard output. The request path hands over an
//! entry and goes on; a task of the control plane formats and writes. What does not fit into the queue is dropped and
//! counted. Paths are written without query, headers and bodies never, so no token gets here.

mod line;

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use http::{StatusCode, Version};
use prometheus::IntCounter;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use weft_api::v1;

use crate::cx::ConnCx;
use crate::reject::Reject;
use crate::telemetry::{Answer, Connection, Direction, Request};

/// Lines that may wait to be written.
const QUEUE: usize = 4096;
/// Lines written at once.
const BATCH: usize = 256;

/// What is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Nothing.
    #[default]
    Off,
    /// Refusals and answers from 400 on, or with a gRPC status other than OK.
    Errors,
    /// Everything.
    All,
}

impl From<v1::AccessLog> for Mode {
    fn from(mode: v1::AccessLog) -> Self {
        match mode {
            v1::AccessLog::Off => Self::Off,
            v1::AccessLog::Errors | v1::AccessLog::Unspecified => Self::Errors,
            v1::AccessLog::All => Self::All,
        }
    }
}

/// Something to log.
#[derive(Debug)]
pub enum Entry {
    /// A request.
    Request(Arc<Request>),
    /// A raw connection.
    Connection(Box<Connection>),
    /// What was no request.
    Head(Box<Head>),
}

/// What a codec refused before there was a request.
#[derive(Debug)]
pub struct Head {
    pub(super) direction: Direction,
    pub(super) conn: Arc<ConnCx>,
    pub(super) version: Version,
    pub(super) status: Option<StatusCode>,
    pub(super) reject: Reject,
    pub(super) ended: SystemTime,
}

/// The hot path's end.
#[derive(Debug)]
pub struct AccessLog {
    mode: AtomicU8,
    queue: mpsc::Sender<Entry>,
    dropped: IntCounter,
}

/// The writer's end.
#[derive(Debug)]
pub struct Outlet {
    queue: mpsc::Receiver<Entry>,
}

/// A log, off at first, and the end that writes it.
pub fn queue(dropped: IntCounter) -> (AccessLog, Outlet) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let mode = AtomicU8::new(Mode::default() as u8);
    (AccessLog { mode, queue: sender, dropped }, Outlet { queue: receiver })
}

impl AccessLog {
    /// Changes what is logged.
    pub fn set_mode(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::Relaxed);
    }

    /// What is logged.
    pub fn mode(&self) -> Mode {
        match self.mode.load(Ordering::Relaxed) {
            0 => Mode::Off,
            1 => Mode::Errors,
            _ => Mode::All,
        }
    }

    /// Whether a request with this answer is logged.
    pub fn wants(&self, answer: &Answer) -> bool {
        match self.mode() {
            Mode::Off => false,
            Mode::All => true,
            Mode::Errors => {
                answer.reject.is_some()
                    || answer.status.as_u16() >= 400
                    || answer.grpc_status.is_some_and(|code| code != 0)
            }
        }
    }

    /// Whether a raw connection is logged.
    pub fn wants_connection(&self, refused: bool) -> bool {
        match self.mode() {
            Mode::Off => false,
            Mode::Errors => refused,
            Mode::All => true,
        }
    }

    /// Hands over an entry; drops and counts it when the writer is behind.
    pub fn send(&self, entry: Entry) {
        if self.queue.try_send(entry).is_err() {
            self.dropped.inc();
        }
    }
}

/// The line of a request.
pub(super) fn line_of(request: Arc<Request>) -> Bytes {
    let mut text = Vec::new();
    line::write(&mut text, &Entry::Request(request));
    text.into()
}

/// Standard output as a file whose writes do not block the runtime.
pub fn stdout() -> std::io::Result<tokio::fs::File> {
    let stdout = std::io::stdout().as_fd().try_clone_to_owned()?;
    Ok(tokio::fs::File::from_std(stdout.into()))
}

impl Outlet {
    /// Writes lines until told to finish, then what is left in the queue.
    pub async fn run<W: AsyncWrite + Unpin>(mut self, mut output: W, finish: CancellationToken) {
        let mut entries = Vec::with_capacity(BATCH);
        let mut text = Vec::new();
        loop {
            let open = tokio::select! {
                biased;
                received = self.queue.recv_many(&mut entries, BATCH) => received > 0,
                () = finish.cancelled() => false,
            };
            if !open {
                return;
            }
            text.clear();
            for entry in entries.drain(..) {
                line::write(&mut text, &entry);
            }
            if let Err(error) = write(&mut output, &text).await {
                warn!(%error, "access log cannot be written and is off from now on");
                return;
            }
        }
    }
}

async fn write<W: AsyncWrite + Unpin>(output: &mut W, text: &[u8]) -> std::io::Result<()> {
    output.write_all(text).await?;
    output.flush().await
}

#[cfg(test)]
mod tests;
