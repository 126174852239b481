//! Seats held by a script in Redis: one round trip and no PostgreSQL, which learns of it from the stream.
//!
//! What the script did may be lost with Redis as long as it is not written down; so nothing is paid before it is.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex as SyncMutex, PoisonError},
    time::Duration,
};

use ::redis::{ErrorKind, RedisError, cmd};
use time::OffsetDateTime;
use tokio::sync::{Mutex, Notify};
use uuid::Uuid;

use super::{Desk, Reserved};
use crate::{
    domain::{
        Error,
        sale::Sale,
        ticket::{Ask, Hold, is_keyed, number_of},
    },
    redis::{
        Keys, RELEASE, RESERVE, STREAM,
        link::{Link, Session, invoke},
        queue::{PLACE_LIFETIME, end_of_keys, millis, millis_of},
        rebuild,
    },
    store::Store,
};

/// How often a counter is rebuilt for one request before it is given up.
const ATTEMPTS: usize = 3;

/// Whose turn it is, per event.
type Turns = HashMap<i32, Arc<Mutex<()>>>;

/// The strategy `redis`.
pub struct Script {
    link: Link,
    store: Store,
    lifetime: Duration,
    /// Events whose counter is being rebuilt by this instance, so that one request does it and the others wait.
    rebuilding: Mutex<Turns>,
    doubts: Doubts,
}

/// Numbers of events whose counter gave seats away that the tables refused: whoever asks next would be refused as well.
#[derive(Default)]
struct Doubts {
    events: SyncMutex<BTreeSet<i32>>,
    come: Notify,
}

impl Doubts {
    fn add(&self, tickets: &[Uuid]) {
        self.lock().extend(tickets.iter().map(|ticket| number_of(*ticket)));
        self.come.notify_one();
    }

    async fn taken(&self) -> BTreeSet<i32> {
        loop {
            let events = std::mem::take(&mut *self.lock());
            if !events.is_empty() {
                return events;
            }
            self.come.notified().await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<i32>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Script {
    /// Holds seats on that server for so long; the tables are what it is rebuilt from.
    pub fn new(link: Link, store: Store, lifetime: Duration) -> Self {
        Self { link, store, lifetime, rebuilding: Mutex::default(), doubts: Doubts::default() }
    }

    /// What Redis holds under the id of a ticket.
    pub async fn hold(&self, ticket: Uuid) -> Result<Option<Hold>, Error> {
        let session = self.link.session().await?;
        let mut command = cmd("HGET");
        command.arg(Keys::of(number_of(ticket)).tickets).arg(ticket.to_string());
        let text: Option<String> = self.link.run(&session, &command).await?;
        Ok(text.and_then(|text| read_hold(ticket, &text)))
    }

    /// Gives the seats of tickets back. Each is given back once, however often this is called.
    pub async fn release(&self, tickets: &[Uuid]) -> Result<(), Error> {
        // A ticket that an idempotency key names stays known as one that ended.
        self.release_leaving(tickets, |ticket| if is_keyed(ticket) { "-" } else { "" }).await
    }

    /// Gives seats back whose ticket never was, as the tables refused it: their idempotency keys may be used again, and
    /// their event is [`doubted`](Self::doubted).
    pub async fn forget(&self, tickets: &[Uuid]) -> Result<(), Error> {
        self.doubts.add(tickets);
        self.release_leaving(tickets, |_| "").await
    }

    /// Waits until tickets were [forgotten](Self::forget), and returns the numbers of their events, once.
    pub async fn doubted(&self) -> BTreeSet<i32> {
        self.doubts.taken().await
    }

    async fn release_leaving(&self, tickets: &[Uuid], left: fn(Uuid) -> &'static str) -> Result<(), Error> {
        let session = self.link.session().await?;
        for ticket in tickets {
            let keys = Keys::of(number_of(*ticket));
            let mut call = invoke(&RELEASE, 3);
            call.arg(&keys.counter).arg(&keys.users).arg(&keys.tickets);
            call.arg(ticket.to_string()).arg(left(*ticket));
            self.link.call::<()>(&session, &RELEASE, &call).await?;
        }
        Ok(())
    }

    /// Makes the counter of an event true for the run of Redis it is in.
    async fn rebuild(&self, sale: &Sale) -> Result<(), Error> {
        let one_at_a_time = self.rebuilding.lock().await.entry(sale.number).or_default().clone();
        let _turn = one_at_a_time.lock().await;
        rebuild::rebuild(&self.link, &self.store, sale, rebuild::When::Stale).await
    }

    async fn ask(&self, session: &Arc<Session>, sale: &Sale, ask: &Ask) -> Result<Vec<i64>, Error> {
        let keys = Keys::of(sale.number);
        let (mut ticket, mut user) = (Uuid::encode_buffer(), Uuid::encode_buffer());
        let mut call = invoke(&RESERVE, 6);
        call.arg(&keys.counter)
            .arg(&keys.users)
            .arg(&keys.tickets)
            .arg(&keys.queue)
            .arg(&keys.turn)
            .arg(STREAM);
        call.arg(session.run());
        call.arg(&*ask.id.hyphenated().encode_lower(&mut ticket));
        call.arg(&*ask.user_id.hyphenated().encode_lower(&mut user));
        call.arg(ask.quantity).arg(sale.per_user_limit).arg(millis(sale.opens)).arg(millis(sale.closes));
        call.arg(millis_of(self.lifetime)).arg(sale.admission_rate.unwrap_or(0));
        call.arg(millis_of(PLACE_LIFETIME)).arg(end_of_keys(sale));
        Ok(self.link.call(session, &RESERVE, &call).await?)
    }
}

impl Desk for Script {
    async fn reserve(&self, sale: &Sale, ask: &Ask, _: OffsetDateTime) -> Result<Reserved, Error> {
        for _ in 0..ATTEMPTS {
            let session = self.link.session().await?;
            let answer = self.ask(&session, sale, ask).await?;
            match Outcome::of(&answer, ask) {
                Some(Outcome::Stale) => self.rebuild(sale).await?,
                Some(Outcome::Held(hold)) => return Ok(Reserved::New(hold)),
                Some(Outcome::Known(hold)) => return Ok(Reserved::Known(Some(hold))),
                Some(Outcome::Ended) => return Ok(Reserved::Known(None)),
                Some(Outcome::NotOpen) => return Err(Error::NotOpen(sale.opens)),
                Some(Outcome::Closed) => return Err(Error::Closed),
                Some(Outcome::LimitReached) => return Err(Error::LimitReached(sale.per_user_limit)),
                Some(Outcome::SoldOut) => return Err(Error::SoldOut),
                Some(Outcome::Wait(ms)) => return Err(Error::Waiting(ms)),
                Some(Outcome::Crowded) => return Err(Error::Crowded),
                None => {
                    let error = (ErrorKind::UnexpectedReturnType, "the script gave no outcome");
                    return Err(RedisError::from(error).into());
                }
            }
        }
        Err(Error::Rebuilding)
    }

    async fn left(&self, sale: &Sale) -> Result<i64, Error> {
        let keys = Keys::of(sale.number);
        let session = self.link.session().await?;
        let mut command = cmd("HMGET");
        command.arg(&keys.counter).arg("run").arg("left");
        let (run, left): (Option<String>, Option<i64>) = self.link.run(&session, &command).await?;
        match left {
            Some(left) if run.as_deref() == Some(session.run()) => Ok(left),
            _ => Ok(i64::from(sale.capacity - self.store.taken(sale.id).await?)),
        }
    }
}

/// What the script says.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Held(Hold),
    Known(Hold),
    Ended,
    Stale,
    NotOpen,
    Closed,
    LimitReached,
    SoldOut,
    Wait(u64),
    Crowded,
}

impl Outcome {
    fn of(answer: &[i64], ask: &Ask) -> Option<Self> {
        let hold = |quantity: i64, expires: i64, created: i64| {
            Some(Hold {
                id: ask.id,
                user_id: ask.user_id,
                quantity: i32::try_from(quantity).ok()?,
                expires: time_of(expires)?,
                created: time_of(created)?,
            })
        };
        match *answer {
            [0, quantity, expires, created] => hold(quantity, expires, created).map(Self::Held),
            [1, quantity, expires, created] => hold(quantity, expires, created).map(Self::Known),
            [2] => Some(Self::Ended),
            [3] => Some(Self::Stale),
            [4] => Some(Self::NotOpen),
            [5] => Some(Self::Closed),
            [6] => Some(Self::LimitReached),
            [7] => Some(Self::SoldOut),
            [8, wait] => Some(Self::Wait(wait.unsigned_abs())),
            [9] => Some(Self::Crowded),
            _ => None,
        }
    }
}

fn time_of(millis: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).ok()
}

/// Reads `user quantity expires created`; none for a ticket that ended.
pub fn read_hold(id: Uuid, text: &str) -> Option<Hold> {
    let mut parts = text.split(' ');
    let hold = Hold {
        id,
        user_id: parts.next()?.parse().ok()?,
        quantity: parts.next()?.parse().ok().filter(|quantity| *quantity > 0)?,
        expires: time_of(parts.next()?.parse().ok()?)?,
        created: time_of(parts.next()?.parse().ok()?)?,
    };
    parts.next().is_none().then_some(hold)
}

/// Writes what [`read_hold`] reads.
pub fn write_hold(hold: &Hold) -> String {
    let (expires, created) = (millis(hold.expires), millis(hold.created));
    format!("{} {} {expires} {created}", hold.user_id, hold.quantity)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_hold_is_read_as_it_was_written(user in any::<u128>(), quantity in 1..i32::MAX, at in 0..4_000_000_000_000_i64) {
            let id = Uuid::new_v4();
            let (expires, created) = (time_of(at + 120_000).unwrap(), time_of(at).unwrap());
            let hold = Hold { id, user_id: Uuid::from_u128(user), quantity, expires, created };
            prop_assert_eq!(read_hold(id, &write_hold(&hold)), Some(hold));
        }

        #[test]
        fn what_is_no_hold_is_not_read(text in ".{0,60}") {
            prop_assert_eq!(read_hold(Uuid::nil(), &text), None);
        }
    }
}
