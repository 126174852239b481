//! A steady load that counts everything that is not a 200. Half of the workers keep their connection, half make a new
//! one for every request, because both kinds of clients exist and fail differently.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::Full;
use k8s_openapi::jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use weft_e2e_kind::wire::{Answer, Failure, Line, Tick};

use crate::{call, millis, print, stopped};

/// Time between two lines that say how far it is.
const TICK: Duration = Duration::from_millis(250);

/// What `load` is told.
#[derive(Clone, clap::Args)]
pub(crate) struct Args {
    /// Where to: `http://host:port/path`.
    url: Uri,
    /// Requests per second.
    #[arg(long, default_value_t = 40)]
    rate: u32,
    /// Requests at once.
    #[arg(long, default_value_t = 8)]
    workers: u32,
    /// Longest time for one request, in seconds.
    #[arg(long, default_value_t = 15)]
    timeout: u64,
}

/// What the workers count.
#[derive(Default)]
struct Counts {
    ok: AtomicU64,
    failed: AtomicU64,
    slowest: AtomicU64,
}

/// Sends requests until SIGTERM.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let counts: &'static Counts = Box::leak(Box::default());
    let stop = CancellationToken::new();
    let mut workers = JoinSet::new();
    for number in 0..args.workers.max(1) {
        workers.spawn(work(args.clone(), number, counts, stop.clone()));
    }
    let began = Instant::now();
    let mut ticks = interval(TICK);
    let end = stopped();
    tokio::pin!(end);
    loop {
        tokio::select! {
            _ = ticks.tick() => tell(began, counts)?,
            () = &mut end => break,
        }
    }
    stop.cancel();
    workers.join_all().await;
    tell(began, counts)?;
    Ok(ExitCode::SUCCESS)
}

async fn work(args: Args, number: u32, counts: &'static Counts, stop: CancellationToken) {
    let client = call::client(number.is_multiple_of(2));
    let between = Duration::from_secs(1) * args.workers.max(1) / args.rate.max(1);
    let mut ticks = interval(between);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.uri_mut() = args.url.clone();
        let began = Instant::now();
        let answer = call::send(&client, request, Duration::from_secs(args.timeout)).await;
        count(counts, &answer, millis(began.elapsed()));
    }
}

fn count(counts: &Counts, answer: &Answer, took: u64) {
    if answer.status == Some(200) {
        counts.ok.fetch_add(1, Ordering::Relaxed);
        counts.slowest.fetch_max(took, Ordering::Relaxed);
        return;
    }
    counts.failed.fetch_add(1, Ordering::Relaxed);
    let failure = Failure { when: Timestamp::now().to_string(), took, why: answer.told() };
    // Standard output is the container's log; where it is closed nobody reads any more.
    drop(print(&Line::Failure(failure)));
}

fn tell(began: Instant, counts: &Counts) -> anyhow::Result<()> {
    print(&Line::Tick(Tick {
        at: millis(began.elapsed()),
        ok: counts.ok.load(Ordering::Relaxed),
        failed: counts.failed.load(Ordering::Relaxed),
        slowest: counts.slowest.swap(0, Ordering::Relaxed),
    }))
}
