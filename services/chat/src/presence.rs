//! Who is in a room, on whichever instance, in Redis. Entries expire unless they are renewed, so that users of an
//! instance that died leave too. Without Redis nobody knows who is there, and everything else goes on.
//!
//! Per room a sorted set of people, and per person in it one of the instances they are on; scores are the times at which
//! entries expire, by the clock of Redis.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{RedisResult, Script};
use shop_kit::redis::Redis;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use crate::{
    domain::{
        frame::{Outgoing, Person},
        room::Room,
    },
    relay::Relay,
};

/// In rooms of more than this many, comings and goings are not told.
const CROWD: u64 = 200;
/// Most people that a list names.
const MOST_NAMED: usize = 100;

/// KEYS: the room, the person in it. ARGV: the person, the instance, milliseconds.
/// Answers whether the person was on no instance before, and how many people are there.
const ENTER: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local expires = now + ARGV[3]
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
local new = redis.call('ZCARD', KEYS[2]) == 0
redis.call('ZADD', KEYS[2], expires, ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('ZADD', KEYS[1], 'GT', expires, ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {new and 1 or 0, redis.call('ZCARD', KEYS[1])}";

/// The same KEYS and ARGV. Answers whether the person is on no instance any more, and how many people are there.
const LEAVE: &str = "
redis.call('ZREM', KEYS[2], ARGV[2])
local gone = redis.call('EXISTS', KEYS[2]) == 0 and redis.call('ZREM', KEYS[1], ARGV[1]) == 1
return {gone and 1 or 0, redis.call('ZCARD', KEYS[1])}";

/// KEYS: the room. Removes the people whose entries have expired and answers with them.
const EXPIRE: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local gone = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1000)
for _, person in ipairs(gone) do redis.call('ZREM', KEYS[1], person) end
return gone";

/// KEYS: the room. ARGV: how many to name. Answers with that many, and how many there are.
const LIST: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return {redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'LIMIT', 0, ARGV[1]),
  redis.call('ZCOUNT', KEYS[1], '(' .. now, '+inf')}";

/// Who is in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Up to 100 of them.
    pub people: Vec<Person>,
    /// How many there are.
    pub count: u64,
}

/// How many connections each person has to each room.
type Connections = HashMap<(Room, Person), usize>;

/// Who is where.
pub struct Presence {
    redis: Redis,
    relay: Arc<Relay>,
    instance: String,
    ttl: Duration,
    /// Connections of each person on this instance.
    here: Mutex<Connections>,
    enter: Script,
    leave: Script,
    expire: Script,
    list: Script,
}

impl Presence {
    /// Nobody is here yet. `ttl` is how long a person is there after their instance died.
    pub fn new(redis: Redis, relay: Arc<Relay>, ttl: Duration) -> Self {
        Self {
            redis,
            relay,
            // The names of instances are for people: one that starts again may have the same.
            instance: Uuid::new_v4().to_string(),
            ttl,
            here: Mutex::default(),
            enter: Script::new(ENTER),
            leave: Script::new(LEAVE),
            expire: Script::new(EXPIRE),
            list: Script::new(LIST),
        }
    }

    /// Somebody came, with one more connection.
    pub async fn enter(&self, room: &Room, person: &Person) {
        let first = {
            let mut here = self.lock();
            let connections = here.entry((room.clone(), person.clone())).or_default();
            *connections += 1;
            *connections == 1
        };
        if first && let Ok((true, count)) = self.mark(&self.enter, room, person).await {
            self.tell(room, &Outgoing::Joined(person), count).await;
        }
    }

    /// Somebody went, with one connection.
    pub async fn leave(&self, room: &Room, person: &Person) {
        let last = {
            let mut here = self.lock();
            let key = (room.clone(), person.clone());
            let left = here.get_mut(&key).map(|connections| {
                *connections -= 1;
                *connections
            });
            if left == Some(0) {
                here.remove(&key);
            }
            left == Some(0)
        };
        if !last {
            return;
        }
        let left = self.mark(&self.leave, room, person).await;
        // Who came again meanwhile must not be missing until the next renewal.
        let back = self.lock().contains_key(&(room.clone(), person.clone()));
        if back {
            self.mark(&self.enter, room, person).await.ok();
        } else if let Ok((true, count)) = left {
            self.tell(room, &Outgoing::Left(person), count).await;
        }
    }

    /// Who is in a room.
    pub async fn list(&self, room: &Room) -> RedisResult<Present> {
        let mut call = self.list.key(room_key(room));
        let (names, count): (Vec<String>, u64) = self.redis.script(call.arg(MOST_NAMED)).await?;
        Ok(Present { people: names.iter().filter_map(|name| read_person(name)).collect(), count })
    }

    /// Renews the entries of this instance and removes those that nobody renewed, until dropped.
    pub async fn renew(&self) {
        let mut tick = interval(self.ttl / 3);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            // Without Redis it is tried again with the next tick.
            self.renew_all().await.ok();
        }
    }

    async fn renew_all(&self) -> RedisResult<()> {
        let here: Vec<(Room, Person)> = self.lock().keys().cloned().collect();
        for (room, person) in &here {
            self.mark(&self.enter, room, person).await?;
        }
        let rooms: BTreeSet<&Room> = here.iter().map(|(room, _)| room).collect();
        for room in rooms {
            self.remove_expired(room).await?;
        }
        Ok(())
    }

    async fn remove_expired(&self, room: &Room) -> RedisResult<()> {
        let gone: Vec<String> = self.redis.script(&self.expire.key(room_key(room))).await?;
        for person in gone.iter().filter_map(|name| read_person(name)) {
            self.tell(room, &Outgoing::Left(&person), 0).await;
        }
        Ok(())
    }

    async fn mark(&self, script: &Script, room: &Room, person: &Person) -> RedisResult<(bool, u64)> {
        let mut call = script.key(room_key(room));
        call.key(person_key(room, person)).arg(write_person(person)).arg(&self.instance);
        self.redis.script(call.arg(self.ttl.as_millis().to_string())).await
    }

    async fn tell(&self, room: &Room, event: &Outgoing<'_>, count: u64) {
        if count <= CROWD {
            self.relay.event(room, &event.text()).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In braces what a cluster hashes: the keys of one script must be on one node.
fn room_key(room: &Room) -> String {
    format!("chat:{{{room}}}:present")
}

fn person_key(room: &Room, person: &Person) -> String {
    format!("chat:{{{room}}}:present:{}", person.user)
}

fn write_person(person: &Person) -> String {
    format!("{} {}", person.user, person.name)
}

fn read_person(text: &str) -> Option<Person> {
    let (user, name) = text.split_once(' ')?;
    Some(Person { user: user.parse().ok()?, name: name.to_owned() })
}
