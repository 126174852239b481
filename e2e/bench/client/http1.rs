//! HTTP/1.1: keep-alive connections, closed or at a fixed rate, and a connection per request.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep_until};

use super::{HOST, Record};
use crate::loads::Shape;

/// What to send and what to expect.
#[derive(Clone)]
pub(super) struct Request {
    head: Rc<[u8]>,
    answer: usize,
}

impl Request {
    pub(super) fn new(path: &str, token: &str, answer: usize, shape: Shape) -> Self {
        let close = if matches!(shape, Shape::Connections { .. }) { "connection: close\r\n" } else { "" };
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: {HOST}\r\nuser-agent: weft-bench\r\naccept: */*\r\n\
             authorization: Bearer {token}\r\n{close}\r\n"
        );
        Self { head: head.into_bytes().into(), answer }
    }
}

/// When each request of one connection is due.
pub(super) struct Pace {
    next: Instant,
    interval: Duration,
}

impl Pace {
    pub(super) fn new(rate: u64, connections: usize, index: usize, begin: Instant) -> Self {
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

/// The next request when the answer is there.
pub(super) async fn closed(address: SocketAddr, request: Request, record: Rc<Record>) -> Result<()> {
    let mut stream = connect(address).await?;
    let mut buffer = vec![0; BUFFER];
    sleep_until(record.begin).await;
    let mut now = Instant::now();
    while now < record.end {
        exchange(&mut stream, &request, &mut buffer).await?;
        now = record.answer(now);
    }
    Ok(())
}

/// The next request when it is due.
pub(super) async fn fixed(
    address: SocketAddr,
    request: Request,
    mut pace: Pace,
    record: Rc<Record>,
) -> Result<()> {
    let mut stream = connect(address).await?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let since = pace.wait().await;
        if since >= record.end {
            return Ok(());
        }
        exchange(&mut stream, &request, &mut buffer).await?;
        record.answer(since);
    }
}

/// Connects, asks once, waits for the other side to close, again and again.
pub(super) async fn connections(
    address: SocketAddr,
    request: Request,
    index: usize,
    record: Rc<Record>,
) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    sleep_until(record.begin).await;
    let mut now = Instant::now();
    while now < record.end {
        let mut stream = connect_from(index, address).await?;
        exchange(&mut stream, &request, &mut buffer).await?;
        ensure!(stream.read(&mut buffer).await? == 0, "more than one answer to one request");
        now = record.answer(now);
    }
    Ok(())
}

const BUFFER: usize = 64 * 1024;

async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// From a loopback address of its own, so that no run is short of ports.
pub(super) async fn connect_from(index: usize, address: SocketAddr) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let last = u8::try_from(index % 250)? + 1;
    socket.bind(SocketAddr::from((Ipv4Addr::new(127, 9, 0, last), 0)))?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One request and its answer.
pub(super) async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    request: &Request,
    buffer: &mut [u8],
) -> Result<()> {
    stream.write_all(&request.head).await?;
    stream.flush().await?;
    let mut filled = 0;
    let mut missing = loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        ensure!(read > 0, "the connection was closed in the middle of an answer");
        filled += read;
        if let Some(head) = head_length(&buffer[..filled], request.answer)? {
            let whole = head + request.answer;
            ensure!(filled <= whole, "more than one answer to one request");
            break whole - filled;
        }
        ensure!(filled < buffer.len(), "the head is larger than expected");
    };
    while missing > 0 {
        let read = stream.read(buffer).await?;
        ensure!(read > 0, "the connection was closed in the middle of a body");
        ensure!(read <= missing, "more than one answer to one request");
        missing -= read;
    }
    Ok(())
}

/// Length of the head once it is whole and says what is expected.
fn head_length(bytes: &[u8], body: usize) -> Result<Option<usize>> {
    let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..head])?;
    if !text.starts_with("HTTP/1.1 200") {
        bail!("unexpected answer: {text}");
    }
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
    });
    ensure!(length.is_some_and(|length| length == Ok(body)), "expected content-length: {body}, got {text}");
    Ok(Some(head))
}
