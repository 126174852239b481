//! What a peer can make this side keep (README, "Limits against an abusive peer"): bytes on the heap before, at most
//! during, and after. The peer's own bytes are made before anything is measured.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "test code")]

#[allow(
    dead_code,
    clippy::excessive_nesting,
    clippy::expect_used,
    clippy::needless_pass_by_value,
    reason = "the other tests use the rest"
)]
#[path = "transport/support.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::timeout;
use weft_transport::frame::{END, Header, Hello, Kind, MAX_PAYLOAD, MORE};
use weft_transport::{Body, Limits, head};

use crate::support::{Answer, SOON, Server, asked, empty, full, get, run, settle};

const KIB: usize = 1024;
/// What a connection has besides what is limited: buffers to read and write, tables.
const CONNECTION: usize = 512 * KIB;
/// What a stream has besides its bytes.
const STREAM: usize = 8 * KIB;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static COUNTING: Counting = Counting;

/// The system's allocator, with a count of what it has given out.
struct Counting;

// SAFETY: every call goes to the system's allocator with the arguments it came with.
#[expect(unsafe_code, reason = "an allocator is unsafe to implement; this one only counts")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

/// What a peer sends, all in one.
#[derive(Default)]
struct Script(Vec<u8>);

impl Script {
    fn new() -> Self {
        let mut hello = BytesMut::new();
        Hello::LEAST.encode(&mut hello);
        Self(hello.to_vec())
    }

    fn frame(&mut self, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
        let length = u16::try_from(payload.len()).unwrap();
        self.0.extend(Header { length, kind, flags, stream }.encode());
        self.0.extend(payload);
    }

    fn ask(&mut self, stream: u32, flags: u8) {
        let (parts, _) = get("/").into_parts();
        let mut out = BytesMut::new();
        head::put_request(&mut out, asked(&parts), false).unwrap();
        self.frame(Kind::Head, flags, stream, &out);
    }
}

/// Keeps the request and never answers.
fn keep(request: Request<Body>) -> Answer {
    Box::pin(async move {
        std::future::pending::<()>().await;
        drop(request);
        Response::new(empty())
    })
}

/// Answers with more than anybody takes.
fn large(_: Request<Body>) -> Answer {
    static LARGE: [u8; 4096 * KIB] = [b'x'; 4096 * KIB];
    Box::pin(async { Response::new(full(Bytes::from_static(&LARGE))) })
}

/// Plays this against a server, which keeps no more than `most` bytes meanwhile, and nothing when the peer has gone. A peer
/// that `reads` takes what comes, as fast as it comes.
async fn withstands(attack: Attack<'_>, answer: fn(Request<Body>) -> Answer, script: &Script) {
    let Attack { name, limits, reads, most } = attack;
    // Small, so that what lies in the pipe does not count for much.
    let (near, far) = duplex(16 * KIB);
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let server = Server::start(far, limits, answer);
    let (mut from, mut to) = tokio::io::split(near);
    let mut taken = vec![0; KIB];
    let reading = async { while reads && from.read(&mut taken).await.is_ok_and(|count| count > 0) {} };
    let attack = async {
        // A server that has seen enough takes no more.
        drop(timeout(SOON, to.write_all(&script.0)).await);
        settle().await;
    };
    tokio::select! {
        () = attack => {}
        () = async { reading.await; std::future::pending().await } => {}
    }
    let peak = PEAK.load(Ordering::Relaxed) - before;
    drop((from, to, taken));
    server.end().await.ok();
    settle().await;
    let after = LIVE.load(Ordering::Relaxed).saturating_sub(before);
    println!("{name}: {} KiB at most, {} allowed, {} after", peak / KIB, most / KIB, after / KIB);
    assert!(peak <= most, "{name}: {peak} bytes kept, at most {most} expected");
    assert!(after <= 64 * KIB, "{name}: {after} bytes are left");
}

/// What is tried, and what it may cost.
struct Attack<'a> {
    name: &'static str,
    limits: &'a Limits,
    reads: bool,
    most: usize,
}

#[test]
fn memory_is_bounded_whatever_a_peer_does() {
    let limits = Limits { max_streams: 64, extra_credit: 1024 * KIB, ..Limits::default() };
    let attack = |name, reads, most| Attack { name, limits: &limits, reads, most: CONNECTION + most };
    run(async {
        let streams = 1..=limits.max_streams;
        let first = limits.initial_credit as usize;
        let all = streams.clone().count();

        let mut bodies = Script::new();
        for stream in streams.clone() {
            bodies.ask(stream, 0);
            (0..first / 16_000).for_each(|_| bodies.frame(Kind::Data, 0, stream, &[7; 16_000]));
        }
        let most = all * (first + STREAM) + limits.extra_credit;
        withstands(attack("bodies that nobody takes", true, most), keep, &bodies).await;

        let mut crumbs = Script::new();
        for stream in streams.clone() {
            crumbs.ask(stream, 0);
        }
        (0..first / 64).for_each(|_| streams.clone().for_each(|n| crumbs.frame(Kind::Data, 0, n, &[7; 60])));
        withstands(attack("bodies in crumbs", true, most), keep, &crumbs).await;

        let mut answers = Script::new();
        streams.clone().for_each(|stream| answers.ask(stream, END));
        let most = all * STREAM + 2 * limits.max_pending;
        withstands(attack("answers that the peer leaves lying", false, most), large, &answers).await;

        let mut heads = Script::new();
        (0..64).for_each(|_| heads.frame(Kind::Head, MORE, 1, &[0; MAX_PAYLOAD]));
        let most = 4 * limits.max_head as usize;
        withstands(attack("a head without end", true, most), keep, &heads).await;

        let mut resets = Script::new();
        for stream in 1..=100_000 {
            resets.ask(stream, END);
            resets.frame(Kind::Reset, 0, stream, &4_u32.to_be_bytes());
        }
        let most = all * STREAM;
        withstands(attack("streams that are given up at once", true, most), keep, &resets).await;
        withstands(attack("the same, and nothing is read", false, most), keep, &resets).await;

        let mut pings = Script::new();
        (0..100_000).for_each(|_| pings.frame(Kind::Ping, 0, 0, &[1; 8]));
        withstands(attack("PING", false, 0), keep, &pings).await;
    });
}
