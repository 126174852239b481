//! The load: keep-alive HTTP/1.1 connections on one thread, closed (the next request when the answer is there) or at a
//! fixed rate. Written to cost as little as it can, since it shares the machine with what it measures; it checks status
//! and length of every answer.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep_until, timeout};

/// Length of every answer's body.
pub(crate) const BODY: usize = 1024;
const REQUEST: &[u8] =
    b"GET / HTTP/1.1\r\nhost: origin.bench.svc\r\nuser-agent: weft-bench\r\naccept: */*\r\n\r\n";
const STALL: Duration = Duration::from_secs(5);

/// What to send.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    pub(crate) duration: Duration,
    /// Requests per second of all connections together; none: closed.
    pub(crate) rate: Option<u64>,
}

impl Load {
    pub(crate) fn closed(connections: usize, duration: Duration) -> Self {
        Self { connections, duration, rate: None }
    }

    pub(crate) fn fixed(connections: usize, duration: Duration, rate: u64) -> Self {
        Self { connections, duration, rate: Some(rate) }
    }
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
    /// Microseconds.
    pub(crate) latency: Histogram<u64>,
}

/// Runs the load. Errors on the first answer that is not a 200 of the expected length.
pub(crate) async fn run(address: SocketAddr, load: &Load) -> Result<Outcome> {
    let latency = Rc::new(RefCell::new(Histogram::<u64>::new_with_bounds(1, 60_000_000, 3)?));
    let local = LocalSet::new();
    let mut tasks = JoinSet::new();
    let begin = Instant::now() + Duration::from_millis(50);
    for index in 0..load.connections {
        let pace = load.rate.map(|rate| Pace::new(rate, load.connections, index, begin));
        let worker = connection(address, begin, begin + load.duration, pace, latency.clone());
        tasks.spawn_local_on(worker, &local);
    }
    local
        .run_until(async {
            while let Some(done) = tasks.join_next().await {
                done??;
            }
            anyhow::Ok(())
        })
        .await?;
    let latency = Rc::into_inner(latency).context("a connection outlived the run")?.into_inner();
    Ok(Outcome { requests: latency.len(), elapsed: Instant::now() - begin, latency })
}

/// When each request of one connection is due.
struct Pace {
    next: Instant,
    interval: Duration,
}

impl Pace {
    fn new(rate: u64, connections: usize, index: usize, begin: Instant) -> Self {
        let interval = Duration::from_secs_f64(connections as f64 / rate as f64);
        Self { next: begin + interval.mul_f64(index as f64 / connections as f64), interval }
    }

    /// Waits until the next request is due and says since when it counts: a request that had to wait for the answer
    /// before it counts from when it was due, one that a coarse timer fired late counts from now.
    async fn wait(&mut self) -> Instant {
        let due = self.next;
        self.next += self.interval;
        if due <= Instant::now() {
            return due;
        }
        sleep_until(due).await;
        Instant::now()
    }
}

async fn connection(
    address: SocketAddr,
    begin: Instant,
    end: Instant,
    mut pace: Option<Pace>,
    latency: Rc<RefCell<Histogram<u64>>>,
) -> Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 16 * 1024];
    sleep_until(begin).await;
    loop {
        let since = match &mut pace {
            Some(pace) => pace.wait().await,
            None => Instant::now(),
        };
        if Instant::now() >= end {
            return Ok(());
        }
        timeout(STALL, exchange(&mut stream, &mut buffer)).await.context("no answer within 5 s")??;
        let micros = u64::try_from(since.elapsed().as_micros())?;
        latency.borrow_mut().saturating_record(micros.max(1));
    }
}

/// One request and its answer.
async fn exchange(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    stream.write_all(REQUEST).await?;
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        ensure!(read > 0, "the connection was closed in the middle of an answer");
        filled += read;
        if let Some(length) = answer_length(&buffer[..filled])? {
            ensure!(filled <= length, "more than one answer to one request");
            if filled == length {
                return Ok(());
            }
        }
        ensure!(filled < buffer.len(), "the answer is larger than expected");
    }
}

/// Length of head and body once the head is whole.
fn answer_length(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..head])?;
    if !text.starts_with("HTTP/1.1 200") {
        bail!("unexpected answer: {text}");
    }
    ensure!(
        text.lines().any(|line| line.len() > 15
            && line.as_bytes()[..15].eq_ignore_ascii_case(b"content-length:")
            && line.as_bytes()[15..].trim_ascii() == b"1024"),
        "expected content-length: {BODY}, got {text}"
    );
    Ok(Some(head + BODY))
}
