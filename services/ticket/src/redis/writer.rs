//! Carries holds from Redis to PostgreSQL: the stream [`STREAM`] is read in batches by a group of all instances.
//!
//! An entry leaves the stream after its ticket is committed, so a crash in between writes it twice, and the ticket's id
//! keeps it single. Entries that an instance took and did not finish are claimed by the others after a while. A hold
//! whose seat is taken is given up, in Redis too.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ::redis::{
    AsyncCommands as _, Cmd, RedisResult,
    aio::MultiplexedConnection,
    cmd, pipe,
    streams::{StreamAutoClaimReply, StreamId, StreamReadReply},
};
use shop_kit::errors::chain;
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};
use uuid::Uuid;

use super::{STREAM, link::Link, rebuild::read_entry};
use crate::{
    desk::Script,
    domain::{
        Error,
        catalogue::Catalogue,
        ticket::{Hold, number_of},
    },
    store::Store,
};

const GROUP: &str = "writers";
const BATCH: usize = 500;
/// Longest that reading waits for an entry.
const WAIT: Duration = Duration::from_secs(1);
/// Longest that an answer may take, which is more.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long an entry may be with an instance before another takes it.
const GIVEN_UP: Duration = Duration::from_secs(5);
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(2);

/// Writes holds down.
pub struct Writer {
    /// Where they come from.
    pub link: Link,
    /// Where they go.
    pub store: Store,
    /// Whose they are.
    pub catalogue: Arc<Catalogue>,
    /// Who gives up those without a seat.
    pub script: Arc<Script>,
    /// The name of this instance in the group.
    pub instance: String,
}

impl Writer {
    /// Writes until dropped.
    pub async fn run(self) {
        let mut retry = FIRST_RETRY;
        loop {
            let started = Instant::now();
            let Err(error) = self.follow().await else { continue };
            if started.elapsed() > LAST_RETRY {
                retry = FIRST_RETRY;
            }
            warn!(error = chain(&error), retry_in = ?retry, "holds wait in redis to be written");
            sleep(retry).await;
            retry = (retry * 2).min(LAST_RETRY);
        }
    }

    /// Writes until something fails.
    async fn follow(&self) -> Result<(), Error> {
        let mut connection = self.link.connect(Some(PATIENCE)).await?;
        make_group(&mut connection).await?;
        // What this instance took before and did not finish.
        loop {
            let entries = self.read(&mut connection, "0").await?;
            if entries.is_empty() {
                break;
            }
            self.write(&mut connection, entries).await?;
        }
        let mut claimed = Instant::now();
        loop {
            let entries = self.read(&mut connection, ">").await?;
            self.write(&mut connection, entries).await?;
            if claimed.elapsed() >= GIVEN_UP {
                claimed = Instant::now();
                let entries = self.claim(&mut connection).await?;
                self.write(&mut connection, entries).await?;
            }
        }
    }

    async fn read(&self, connection: &mut MultiplexedConnection, from: &str) -> RedisResult<Vec<StreamId>> {
        let mut read: Cmd = cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg(&self.instance).arg("COUNT").arg(BATCH);
        read.arg("BLOCK").arg(WAIT.as_secs() * 1000).arg("STREAMS").arg(STREAM).arg(from);
        let reply: Option<StreamReadReply> = read.query_async(connection).await?;
        Ok(reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids).collect())
    }

    async fn claim(&self, connection: &mut MultiplexedConnection) -> RedisResult<Vec<StreamId>> {
        let mut claim = cmd("XAUTOCLAIM");
        claim.arg(STREAM).arg(GROUP).arg(&self.instance).arg(GIVEN_UP.as_secs() * 1000).arg("0");
        let reply: StreamAutoClaimReply = claim.arg("COUNT").arg(BATCH).query_async(connection).await?;
        Ok(reply.claimed)
    }

    /// Writes a batch, event by event, and takes it out of the stream.
    async fn write(
        &self,
        connection: &mut MultiplexedConnection,
        entries: Vec<StreamId>,
    ) -> Result<(), Error> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut events: BTreeMap<i32, Vec<Hold>> = BTreeMap::new();
        for entry in &entries {
            let hold = entry.get::<String>("hold").and_then(|text| read_entry(&text));
            let Some(hold) = hold else {
                // Taken out of the stream like the others: no one can do better with it.
                error!(entry = entry.id, "an entry of the stream is no hold");
                continue;
            };
            events.entry(number_of(hold.id)).or_default().push(hold);
        }
        for (number, holds) in events {
            self.write_event(number, holds).await?;
        }
        let ids: Vec<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
        let mut commands = pipe();
        commands.atomic().xack(STREAM, GROUP, &ids).ignore().xdel(STREAM, &ids).ignore();
        commands.query_async::<()>(connection).await?;
        Ok(())
    }

    async fn write_event(&self, number: i32, mut holds: Vec<Hold>) -> Result<(), Error> {
        let Some(sale) = self.catalogue.of_number(number).await? else {
            error!(number, holds = holds.len(), "holds of an event that is not in the database are dropped");
            return Ok(());
        };
        // All who write tickets lock them in this order.
        holds.sort_by_key(|hold| hold.id);
        let refused: Vec<Uuid> = self.store.write(&sale, &holds).await?.iter().map(|hold| hold.id).collect();
        if !refused.is_empty() {
            info!(event = %sale.id, refused = refused.len(), "holds whose seats were taken are dropped");
            self.script.forget(&refused).await?;
        }
        Ok(())
    }
}

async fn make_group(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    let made: RedisResult<()> = connection.xgroup_create_mkstream(STREAM, GROUP, "0").await;
    match made {
        Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
        other => other,
    }
}
