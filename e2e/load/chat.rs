//! The swarm: clients in rooms, over all instances, one of whom says something at each time of the timetable.
//!
//! A message carries the time at which it was due, so what is measured is the way from there to each who hears it. Each
//! client checks that the ids it hears have no holes and come in order; at the end nobody may have missed anything.

mod member;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::Method;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::arrivals::Random;
use crate::books::Check;
use crate::people::People;
use crate::progress::{Progress, note};
use crate::record::{Outcome, Record};
use crate::report::{Delivered, Report};
use crate::web::Web;
use crate::{Cx, Timing, count};
use member::{Line, Member};

const CONNECT_AT_ONCE: usize = 32;
const SETTLE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The swarm.
#[derive(Clone, Debug, Args)]
pub(crate) struct Chat {
    #[command(flatten)]
    pub(crate) timing: Timing,
    /// How many clients there are
    #[arg(long, default_value = "1000", value_parser = count, value_name = "N")]
    pub(crate) clients: usize,
    /// In how many rooms
    #[arg(long, default_value = "20", value_parser = count, value_name = "N")]
    pub(crate) rooms: usize,
}

/// What all clients of the swarm count together.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) start: Instant,
    pub(crate) record: Record,
    /// Ids that came out of order or twice.
    pub(crate) disorder: AtomicU64,
    pub(crate) reconnects: AtomicU64,
    /// Messages that were refused.
    pub(crate) refused: AtomicU64,
    /// Messages that are stored.
    pub(crate) accepted: AtomicU64,
}

impl Heard {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            record: Record::new(),
            disorder: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
        }
    }
}

/// Lets the clients in, has them talk, and looks at who heard what.
pub(crate) async fn run(cx: &Cx, chat: &Chat) -> Result<Report> {
    ensure!(
        chat.rooms <= chat.clients,
        "there are more rooms ({}) than clients ({})",
        chat.rooms,
        chat.clients
    );
    let people = People::gather(&cx.site, cx.way, chat.clients, &cx.identity).await?;
    let bases = cx.site.bases("chat", cx.way)?;
    let heard = Arc::new(Heard::new());
    let run = Uuid::new_v4().simple().to_string();
    let room = |number: usize| format!("load-{run}-{}", number % chat.rooms);
    note(&format!("{} clients enter {} rooms", chat.clients, chat.rooms));
    let (stop, mut tasks) = (CancellationToken::new(), JoinSet::new());
    let entering = stream::iter(people.customers.iter().enumerate()).map(|(number, person)| {
        let base = bases[number / chat.rooms % bases.len()].clone();
        Member::enter(base, room(number), person.clone(), heard.clone())
    });
    let members: Vec<Member> = entering.buffered(CONNECT_AT_ONCE).try_collect().await?;
    let mut lines = Vec::new();
    for member in members {
        lines.push(member.line());
        tasks.spawn(member.run(stop.clone()));
    }
    let started = heard.start.elapsed();
    talk(cx, chat, &lines, &heard).await;
    let missing = wait_for_all(&bases[0], &people, chat, &lines, &room).await?;
    let lasted = heard.start.elapsed().saturating_sub(started);
    stop.cancel();
    tasks.join_all().await;
    let summary = heard.record.summary(lasted);
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (disorder, refused) = (load(&heard.disorder), load(&heard.refused));
    let delivered = Delivered {
        clients: chat.clients,
        deliveries: summary.done,
        per_second: summary.per_second,
        reconnects: load(&heard.reconnects),
    };
    let books = vec![
        Check::new("everybody heard everything", missing == 0, format!("{missing} not heard")),
        Check::new(
            "everybody heard it in order, and once",
            disorder == 0,
            format!("{disorder} out of order"),
        ),
        Check::new(
            "what was said is stored",
            refused == 0,
            format!("{} stored, {refused} refused", load(&heard.accepted)),
        ),
    ];
    let name = format!("chat, {}", cx.way.title());
    Ok(Report { name, settings: format!("{chat:?}"), summary, chat: Some(delivered), books })
}

/// At each time of the timetable somebody says something.
async fn talk(cx: &Cx, chat: &Chat, lines: &[Line], heard: &Heard) {
    let progress = Progress::new(&format!("chat, {}", cx.way.title()), chat.timing.lasts());
    let (mut random, begin) = (Random::new(cx.seed), Instant::now());
    for time in chat.timing.arrivals(cx.seed) {
        let due = begin + time;
        sleep_until(due).await;
        if !lines[random.below(lines.len())].say(due - heard.start) {
            heard.record.note(Outcome::Failed("a client cannot keep up".into()), Duration::ZERO);
        }
        progress.show(begin.elapsed(), &heard.record);
    }
    progress.end();
}

/// Waits until everybody is where their room is, and returns how many messages were not heard, by all together.
async fn wait_for_all(
    base: &str,
    people: &People,
    chat: &Chat,
    lines: &[Line],
    room: &impl Fn(usize) -> String,
) -> Result<u64> {
    let (web, deadline) = (Web::new(), Instant::now() + SETTLE);
    loop {
        let mut ends = Vec::new();
        for number in 0..chat.rooms {
            let url = format!("{base}/chat/rooms/{}/messages?limit=1", room(number));
            let last = web.ask(Method::GET, &url, &people.admin.headers, None).await?;
            let last = last["items"]
                .as_array()
                .context("a history has items")?
                .last()
                .and_then(|item| item["id"].as_u64());
            ends.push(last.unwrap_or_default());
        }
        let behind = |(number, line): (usize, &Line)| ends[number % chat.rooms].saturating_sub(line.last());
        let missing: u64 = lines.iter().enumerate().map(behind).sum();
        let waiting: u64 = lines.iter().map(Line::waiting).sum();
        if (missing == 0 && waiting == 0) || Instant::now() > deadline {
            return Ok(missing);
        }
        sleep(LOOK_EVERY).await;
    }
}
