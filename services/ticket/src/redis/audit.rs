//! Proves that Redis and PostgreSQL agree about an event, to the ticket.
//!
//! PostgreSQL is made to stand still by the lock of the event's row; Redis is read in one transaction. Every ticket that
//! takes seats must be in both, except those on their way: in the stream and not written yet, or ended and not given
//! back yet. So the comparison is exact while the sale goes on, and a difference is one.

use std::collections::HashMap;

use ::redis::{RedisResult, pipe, streams::StreamRangeReply};
use serde::Serialize;
use uuid::Uuid;

use super::{
    Keys, STREAM,
    link::Link,
    rebuild::{read_entry, seats, seats_per_user},
};
use crate::{
    desk::script::read_hold,
    domain::{
        Error,
        sale::Sale,
        ticket::{Hold, number_of},
    },
    store::{Store, frozen::Frozen},
};

/// Differences that a report names; it counts all.
const NAMED: usize = 20;

/// Something about which the two disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A ticket that only Redis has.
    OnlyInRedis,
    /// A ticket that Redis does not have.
    OnlyInPostgres,
    /// Redis counts the seats left otherwise than its own tickets.
    Left,
    /// Redis counts the seats of a customer otherwise than its own tickets.
    Customer,
    /// The event's row counts the seats taken otherwise than its own tickets.
    Taken,
    /// The counter is of another run of Redis, or gone.
    Stale,
}

impl Kind {
    /// The kind as the metric spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::OnlyInRedis => "only_in_redis",
            Kind::OnlyInPostgres => "only_in_postgres",
            Kind::Left => "left",
            Kind::Customer => "customer",
            Kind::Taken => "taken",
            Kind::Stale => "stale",
        }
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What is different.
    pub kind: Kind,
    /// The ticket or customer it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<Uuid>,
    /// Seats according to PostgreSQL, or to the tickets that are counted.
    pub expected: i64,
    /// Seats according to Redis, or to the counter.
    pub found: i64,
}

/// What the audit of an event found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether the two agree.
    pub agrees: bool,
    /// Whether the counter was rebuilt because they did not.
    pub repaired: bool,
    /// How many seats there are.
    pub capacity: i32,
    /// How many of them PostgreSQL knows to be taken.
    pub in_postgres: i64,
    /// How many Redis does; none when it does not count this event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_redis: Option<i64>,
    /// Seats in the stream that are not written yet.
    pub unwritten: i64,
    /// How many differences there are.
    pub different: usize,
    /// The first of them.
    pub differences: Vec<Difference>,
}

/// What Redis knows at one moment.
#[derive(Debug, Default)]
struct Snapshot {
    current: bool,
    left: i64,
    users: HashMap<Uuid, i64>,
    tickets: HashMap<Uuid, Hold>,
    stream: Vec<Hold>,
}

/// Compares the two. Changes nothing.
pub async fn compare(link: &Link, store: &Store, sale: &Sale) -> Result<(Report, Vec<Difference>), Error> {
    let mut frozen = store.freeze(sale).await?;
    let snapshot = read(link, sale).await?;
    let stream = snapshot.stream.iter().map(|hold| hold.id).collect();
    let written = frozen.written(stream).await?;
    let unwritten: Vec<Hold> =
        snapshot.stream.iter().filter(|hold| !written.contains(&hold.id)).copied().collect();
    let differences = differences(sale, &frozen, &snapshot, &unwritten);
    let taken: Vec<Hold> = snapshot.tickets.values().copied().collect();
    let report = report(sale, &frozen.holds, &differences);
    frozen.thaw().await?;
    Ok((Report { in_redis: Some(seats(&taken)), unwritten: seats(&unwritten), ..report }, differences))
}

/// Looks whether PostgreSQL agrees with itself about an event that Redis does not count.
pub async fn compare_rows(store: &Store, sale: &Sale) -> Result<(Report, Vec<Difference>), Error> {
    let frozen = store.freeze(sale).await?;
    let differences: Vec<_> = wrong_row(&frozen).into_iter().collect();
    let report = report(sale, &frozen.holds, &differences);
    frozen.thaw().await?;
    Ok((report, differences))
}

fn report(sale: &Sale, holds: &[Hold], differences: &[Difference]) -> Report {
    Report {
        agrees: differences.is_empty(),
        repaired: false,
        capacity: sale.capacity,
        in_postgres: seats(holds),
        in_redis: None,
        unwritten: 0,
        different: differences.len(),
        differences: differences.iter().take(NAMED).cloned().collect(),
    }
}

/// Counter, users, tickets and stream.
type Answer =
    ((Option<String>, Option<i64>), HashMap<String, i64>, HashMap<String, String>, StreamRangeReply);

async fn read(link: &Link, sale: &Sale) -> Result<Snapshot, Error> {
    let session = link.session().await?;
    let keys = Keys::of(sale.number);
    let mut commands = pipe();
    commands.atomic().hmget(&keys.counter, &["run", "left"]).hgetall(&keys.users).hgetall(&keys.tickets);
    commands.xrange_all(STREAM);
    let answer: RedisResult<Answer> = link.run_all(&session, &commands).await;
    let ((run, left), users, tickets, stream) = answer?;
    let ticket = |(id, text): (String, String)| {
        let id = id.parse().ok()?;
        Some((id, read_hold(id, &text)?))
    };
    let entries = stream.ids.iter().filter_map(|entry| entry.get::<String>("hold"));
    Ok(Snapshot {
        current: run.as_deref() == Some(session.run()),
        left: left.unwrap_or_default(),
        users: users.into_iter().filter_map(|(user, seats)| Some((user.parse().ok()?, seats))).collect(),
        tickets: tickets.into_iter().filter_map(ticket).collect(),
        stream: entries
            .filter_map(|text| read_entry(&text))
            .filter(|hold| number_of(hold.id) == sale.number)
            .collect(),
    })
}

fn differences(sale: &Sale, frozen: &Frozen, redis: &Snapshot, unwritten: &[Hold]) -> Vec<Difference> {
    let mut found: Vec<_> = wrong_row(frozen).into_iter().collect();
    if !redis.current {
        let expected = seats(&frozen.holds);
        found.push(Difference { kind: Kind::Stale, of: None, expected, found: 0 });
        return found;
    }
    let expected: HashMap<Uuid, i64> =
        frozen.holds.iter().chain(unwritten).map(|hold| (hold.id, i64::from(hold.quantity))).collect();
    for hold in redis.tickets.values() {
        if !expected.contains_key(&hold.id) && !frozen.releasing.contains(&hold.id) {
            let found_seats = i64::from(hold.quantity);
            found.push(Difference {
                kind: Kind::OnlyInRedis,
                of: Some(hold.id),
                expected: 0,
                found: found_seats,
            });
        }
    }
    for (id, seats) in expected.into_iter().filter(|(id, _)| !redis.tickets.contains_key(id)) {
        found.push(Difference { kind: Kind::OnlyInPostgres, of: Some(id), expected: seats, found: 0 });
    }
    found.extend(wrong_counters(sale, redis));
    found
}

fn wrong_row(frozen: &Frozen) -> Option<Difference> {
    let (expected, found) = (seats(&frozen.holds), i64::from(frozen.taken));
    (expected != found).then_some(Difference { kind: Kind::Taken, of: None, expected, found })
}

/// Counters of Redis that do not add up with the tickets of Redis.
fn wrong_counters(sale: &Sale, redis: &Snapshot) -> Vec<Difference> {
    let tickets: Vec<Hold> = redis.tickets.values().copied().collect();
    let left = i64::from(sale.capacity) - seats(&tickets);
    let mut wrong = Vec::new();
    if left != redis.left {
        wrong.push(Difference { kind: Kind::Left, of: None, expected: left, found: redis.left });
    }
    let expected = seats_per_user(&tickets);
    for user in expected.keys().chain(redis.users.keys().filter(|user| !expected.contains_key(user))) {
        let of = |users: &HashMap<Uuid, i64>| users.get(user).copied().unwrap_or_default();
        let (expected, found) = (of(&expected), of(&redis.users));
        if expected != found {
            wrong.push(Difference { kind: Kind::Customer, of: Some(*user), expected, found });
        }
    }
    wrong
}
