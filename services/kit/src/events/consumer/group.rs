//! A consumer group of Redis Streams: what is read, taken over, acknowledged and given up. Commands only; what is done
//! with an entry is decided in `consumer`.
//!
//! Reading blocks, so it has a connection of its own; everything else shares one that fails fast.

use std::time::Duration;

use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, RedisResult, Script,
    aio::MultiplexedConnection,
    cmd, pipe,
    streams::{StreamInfoGroupsReply, StreamPendingCountReply},
};

use crate::{
    events::wire::{Fields, STREAM_LENGTH},
    redis::Redis,
};

const CONNECT: Duration = Duration::from_millis(500);
/// Longer than any read blocks.
const ANSWER: Duration = Duration::from_secs(5);
/// Before all entries.
const START: &str = "0-0";
const TAKEN_OVER_AT_ONCE: usize = 16;
/// More values than any event has, fewer than a script may pass on.
const MOST_VALUES: usize = 1000;
/// KEYS: stream, dead-letter stream; ARGV: group, entry, length of the dead-letter stream, reason, deliveries, fields.
/// Appends first: when that fails, for want of memory, the entry must stay pending. An entry that is not pending was
/// handled or given up by somebody else.
const BURY: &str = r"
local add = {'XADD', KEYS[2], 'MAXLEN', '~', ARGV[3], '*',
             'group', ARGV[1], 'entry', ARGV[2], 'reason', ARGV[4], 'deliveries', ARGV[5]}
for i = 6, #ARGV do add[#add + 1] = ARGV[i] end
local dead = redis.call(unpack(add))
if redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) == 0 then redis.call('XDEL', KEYS[2], dead) end
";

type Entries = Vec<(String, Fields)>;

/// An entry that was given to this consumer.
pub(super) struct Delivery {
    pub(super) stream: String,
    pub(super) entry: String,
    pub(super) fields: Fields,
    /// How often it was given to anybody, this time counted.
    pub(super) deliveries: u64,
}

impl Delivery {
    /// Whether both are of the same entry.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.stream == other.stream && self.entry == other.entry
    }
}

/// How much is waiting in one stream.
pub(super) struct Backlog {
    pub(super) stream: String,
    /// Given to nobody yet, as far as Redis knows.
    pub(super) undelivered: Option<usize>,
    /// Given to somebody, not acknowledged.
    pub(super) pending: usize,
}

/// The connection that blocks.
pub(super) struct Reader(MultiplexedConnection);

/// A group on some streams, as one consumer of it sees it.
pub(super) struct Group {
    client: Client,
    redis: Redis,
    name: String,
    consumer: String,
    streams: Vec<String>,
    /// For each stream, how far the search for stale entries has come.
    searched: Vec<String>,
    bury: Script,
}

impl Group {
    pub(super) fn new(
        server: &ConnectionInfo,
        name: &str,
        consumer: &str,
        streams: &[&str],
    ) -> RedisResult<Self> {
        Ok(Self {
            client: Client::open(server.clone())?,
            redis: Redis::new(server.clone())?,
            name: name.to_owned(),
            consumer: consumer.to_owned(),
            streams: streams.iter().map(ToString::to_string).collect(),
            searched: vec![START.to_owned(); streams.len()],
            bury: Script::new(BURY),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) async fn reader(&self) -> RedisResult<Reader> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(ANSWER));
        Ok(Reader(self.client.get_multiplexed_async_connection_with_config(&config).await?))
    }

    /// Makes the group on every stream that does not have it, so that it gets all there is in the stream.
    pub(super) async fn create(&self) -> RedisResult<()> {
        for stream in &self.streams {
            let mut create = command("XGROUP", "CREATE");
            create.arg(stream).arg(&self.name).arg(START).arg("MKSTREAM");
            match self.redis.run::<()>(&create).await {
                Err(error) if error.code() != Some("BUSYGROUP") => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// The next entry of each stream; waits for one when there is none.
    pub(super) async fn read(&self, reader: &mut Reader, wait: Duration) -> RedisResult<Vec<Delivery>> {
        let mut read = command("XREADGROUP", "GROUP");
        // 0 would be for ever.
        read.arg(&self.name).arg(&self.consumer).arg("COUNT").arg(1).arg("BLOCK").arg(millis(wait).max(1));
        read.arg("STREAMS").arg(&self.streams).arg(vec![">"; self.streams.len()]);
        let found: Option<Vec<(String, Entries)>> = read.query_async(&mut reader.0).await?;
        let deliveries = |(stream, entries): (String, Entries)| {
            entries.into_iter().map(move |(entry, fields)| Delivery {
                stream: stream.clone(),
                entry,
                fields,
                deliveries: 1,
            })
        };
        Ok(found.unwrap_or_default().into_iter().flat_map(deliveries).collect())
    }

    /// Takes over some of the entries that have been with any consumer for so long, and whether there may be more.
    pub(super) async fn claim_stale(&mut self, idle: Duration) -> RedisResult<(Vec<Delivery>, bool)> {
        let mut taken = Vec::new();
        for (index, stream) in self.streams.iter().enumerate() {
            let mut claim = cmd("XAUTOCLAIM");
            claim.arg(stream).arg(&self.name).arg(&self.consumer).arg(millis(idle));
            claim.arg(&self.searched[index]).arg("COUNT").arg(TAKEN_OVER_AT_ONCE);
            // The third part is what was cut off the stream meanwhile and is lost.
            let (searched, entries, _): (String, Entries, Vec<String>) = self.redis.run(&claim).await?;
            self.searched[index] = searched;
            let counts = self.deliveries(stream, &entries).await?;
            taken.extend(entries.into_iter().zip(counts).map(|((entry, fields), deliveries)| Delivery {
                stream: stream.clone(),
                entry,
                fields,
                deliveries,
            }));
        }
        Ok((taken, self.searched.iter().any(|searched| searched != START)))
    }

    async fn deliveries(&self, stream: &str, entries: &Entries) -> RedisResult<Vec<u64>> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let mut ask = pipe();
        for (entry, _) in entries {
            ask.cmd("XPENDING").arg(stream).arg(&self.name).arg(entry).arg(entry).arg(1);
        }
        let counts: Vec<StreamPendingCountReply> = self.redis.run_all(&ask).await?;
        Ok(counts.iter().map(|count| count.ids.first().map_or(1, |id| id.times_delivered as u64)).collect())
    }

    /// Keeps an entry that this consumer has had for so long for another try, unless another has taken it over.
    pub(super) async fn claim(&self, delivery: &Delivery, least_idle: Duration) -> RedisResult<bool> {
        let mut claim = cmd("XCLAIM");
        claim.arg(&delivery.stream).arg(&self.name).arg(&self.consumer).arg(millis(least_idle));
        claim.arg(&delivery.entry);
        let held: Entries = self.redis.run(&claim).await?;
        Ok(!held.is_empty())
    }

    pub(super) async fn acknowledge(&self, delivery: &Delivery) -> RedisResult<()> {
        self.redis.run(cmd("XACK").arg(&delivery.stream).arg(&self.name).arg(&delivery.entry)).await
    }

    /// Moves an entry to the dead-letter stream of its stream.
    pub(super) async fn bury(&self, delivery: &Delivery, reason: &str) -> RedisResult<()> {
        let mut bury = self.bury.prepare_invoke();
        bury.key(&delivery.stream).key(format!("{}.dead", delivery.stream));
        bury.arg(&self.name).arg(&delivery.entry).arg(STREAM_LENGTH).arg(reason).arg(delivery.deliveries);
        for value in delivery.fields.iter().take(MOST_VALUES) {
            bury.arg(value);
        }
        self.redis.script(&bury).await
    }

    pub(super) async fn backlogs(&self) -> RedisResult<Vec<Backlog>> {
        let mut ask = pipe();
        for stream in &self.streams {
            ask.add_command(command("XINFO", "GROUPS")).arg(stream);
        }
        let groups: Vec<StreamInfoGroupsReply> = self.redis.run_all(&ask).await?;
        let of_ours = |(stream, reply): (&String, StreamInfoGroupsReply)| {
            let ours = reply.groups.into_iter().find(|group| group.name == self.name)?;
            Some(Backlog { stream: stream.clone(), undelivered: ours.lag, pending: ours.pending })
        };
        Ok(self.streams.iter().zip(groups).filter_map(of_ours).collect())
    }
}

fn command(name: &str, kind: &str) -> Cmd {
    let mut command = cmd(name);
    command.arg(kind);
    command
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
