//! Makes the counter of an event true again: after Redis was restarted or emptied, and when the audit finds it wrong.
//!
//! 1. The counter is stopped: nothing more is held.
//! 2. What waits in the stream is written to PostgreSQL, where a seat that is taken refuses it.
//! 3. The event's row is locked, so that PostgreSQL stands still, and its tickets are staged beside the counter.
//! 4. One script puts them in place and names the run, if all of them are there. Then the lock is given up.
//!
//! A crash in between leaves a stopped counter, which the next request rebuilds; so does a Redis that is emptied.

use std::{collections::HashMap, sync::Arc};

use ::redis::{Cmd, cmd, pipe, streams::StreamRangeReply};
use tracing::{info, warn};
use uuid::Uuid;

use super::{
    INSTALL, Keys, PAUSE, STREAM,
    link::{Link, Session, invoke},
    queue::end_of_keys,
};
use crate::{
    desk::script::{read_hold, write_hold},
    domain::{
        Error,
        sale::Sale,
        ticket::{Hold, number_of},
    },
    store::Store,
};

const AT_ONCE: usize = 1000;
/// How long staged keys stay when nobody puts them in place.
const STAGED: i64 = 60;

/// When a counter is rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Only if it is not true for this run of Redis.
    Stale,
    /// Whatever it says.
    Wrong,
}

/// Rebuilds the counter of an event.
pub async fn rebuild(link: &Link, store: &Store, sale: &Sale, when: When) -> Result<(), Error> {
    let session = link.session().await?;
    let keys = Keys::of(sale.number);
    let mut call = invoke(&PAUSE, 1);
    let unless = if when == When::Stale { session.run() } else { "" };
    call.arg(&keys.counter).arg(unless).arg(end_of_keys(sale));
    if link.call::<i64>(&session, &PAUSE, &call).await? == 0 {
        return Ok(());
    }
    drain(link, &session, store, sale).await?;

    let frozen = store.freeze(sale).await?;
    let run: Option<String> = link.run(&session, cmd("HGET").arg(&keys.counter).arg("run")).await?;
    if run.as_deref() == Some(session.run()) {
        // Another instance was faster.
        return Ok(());
    }
    let staged = Keys::of_staged(sale.number);
    let tickets: Vec<_> = frozen.holds.iter().map(|hold| (hold.id.to_string(), write_hold(hold))).collect();
    let ended = frozen.ended.iter().map(|id| (id.to_string(), "-".to_owned()));
    let tickets: Vec<_> = tickets.into_iter().chain(ended).collect();
    stage(link, &session, &staged.tickets, &tickets).await?;
    let users = seats_per_user(&frozen.holds);
    let users: Vec<_> =
        users.into_iter().map(|(user, seats)| (user.to_string(), seats.to_string())).collect();
    stage(link, &session, &staged.users, &users).await?;
    let left = i64::from(sale.capacity) - seats(&frozen.holds);
    let mut call = invoke(&INSTALL, 5);
    call.arg(&keys.counter).arg(&keys.users).arg(&keys.tickets).arg(&staged.users).arg(&staged.tickets);
    call.arg(session.run()).arg(left).arg(end_of_keys(sale)).arg(users.len()).arg(tickets.len());
    let installed = link.call::<i64>(&session, &INSTALL, &call).await?;
    frozen.thaw().await?;
    if installed == 0 {
        return Err(Error::Rebuilding);
    }
    info!(event = %sale.id, left, "the counter in redis was rebuilt");
    Ok(())
}

/// Writes what waits in the stream for an event, and leaves it there: written twice it is still there once.
async fn drain(link: &Link, session: &Arc<Session>, store: &Store, sale: &Sale) -> Result<(), Error> {
    let mut from = "-".to_owned();
    loop {
        let mut range = cmd("XRANGE");
        range.arg(STREAM).arg(&from).arg("+").arg("COUNT").arg(AT_ONCE);
        let entries: StreamRangeReply = link.run(session, &range).await?;
        let Some(last) = entries.ids.last() else { return Ok(()) };
        from = format!("({}", last.id);
        let texts = entries.ids.iter().filter_map(|entry| entry.get::<String>("hold"));
        let holds = texts.filter_map(|text| read_entry(&text));
        let mut holds: Vec<Hold> = holds.filter(|hold| number_of(hold.id) == sale.number).collect();
        holds.sort_by_key(|hold| hold.id);
        let refused = if holds.is_empty() { Vec::new() } else { store.write(sale, &holds).await? };
        if !refused.is_empty() {
            warn!(event = %sale.id, refused = refused.len(), "holds whose seats were taken are dropped");
        }
    }
}

async fn stage(
    link: &Link,
    session: &Arc<Session>,
    key: &str,
    fields: &[(String, String)],
) -> Result<(), Error> {
    link.run::<()>(session, cmd("DEL").arg(key)).await?;
    for chunk in fields.chunks(AT_ONCE) {
        let mut set: Cmd = cmd("HSET");
        set.arg(key);
        for (field, value) in chunk {
            set.arg(field).arg(value);
        }
        let mut commands = pipe();
        commands.add_command(set).ignore().expire(key, STAGED).ignore();
        link.run_all::<()>(session, &commands).await?;
    }
    Ok(())
}

/// Reads an entry of the stream: `ticket user quantity expires created`.
pub fn read_entry(text: &str) -> Option<Hold> {
    let (id, rest) = text.split_once(' ')?;
    read_hold(id.parse().ok()?, rest)
}

/// How many seats these are.
pub fn seats(holds: &[Hold]) -> i64 {
    holds.iter().map(|hold| i64::from(hold.quantity)).sum()
}

/// How many of them each customer has.
pub fn seats_per_user(holds: &[Hold]) -> HashMap<Uuid, i64> {
    let mut users = HashMap::new();
    for hold in holds {
        *users.entry(hold.user_id).or_default() += i64::from(hold.quantity);
    }
    users
}

#[cfg(test)]
mod tests {
    use shop_kit::testing::RedisServer;

    use super::*;

    #[tokio::test]
    async fn what_is_staged_is_put_in_place_only_if_all_of_it_is_there() {
        let server = RedisServer::start();
        let link = Link::new(server.url().parse().unwrap()).unwrap();
        let session = link.session().await.unwrap();
        let (keys, staged) = (Keys::of(1), Keys::of_staged(1));
        let tickets = [("a".to_owned(), "x 1 2 1".to_owned()), ("b".to_owned(), "-".to_owned())];
        let install = async || {
            let mut call = invoke(&INSTALL, 5);
            call.arg(&keys.counter).arg(&keys.users).arg(&keys.tickets);
            call.arg(&staged.users).arg(&staged.tickets);
            call.arg("run").arg(7).arg(4_000_000_000_000_i64).arg(0).arg(tickets.len());
            link.call::<i64>(&session, &INSTALL, &call).await.unwrap()
        };
        stage(&link, &session, &staged.tickets, &tickets[..1]).await.unwrap();
        assert_eq!(install().await, 0, "as when Redis is emptied while it is staged");
        let counter = async || -> Option<i64> {
            link.run(&session, cmd("HGET").arg(&keys.counter).arg("left")).await.unwrap()
        };
        assert_eq!(counter().await, None);
        stage(&link, &session, &staged.tickets, &tickets).await.unwrap();
        assert_eq!((install().await, counter().await), (1, Some(7)));
    }
}
