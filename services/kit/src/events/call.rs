//! Request and reply over Redis, for a service that is asked seldom, by those with no route to it, or while it may be
//! away for a moment: `send` puts a question into the list of an address, whoever answers there takes it, and the
//! answer comes back through a list of this instance alone. Beside it `emit`, which tells and does not wait.
//!
//! The mesh does not see these calls, so what it does for others is here: a time for each try, tries with growing
//! waits, and a breaker per address. A question is taken while its asker still waits and not after; its id is the same
//! in every try, and it may be answered twice. The answering side is `responder`.

mod breaker;
mod responder;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ::redis::{
    AsyncConnectionConfig, Client, Pipeline, RedisError, RedisResult, aio::MultiplexedConnection, cmd, pipe,
};
use http::HeaderValue;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, warn};
use uuid::Uuid;

use self::breaker::Breaker;
use super::{Event, wire};
use crate::{
    cx::Cx,
    errors::{Kind, Problem, chain},
    metrics::Metrics,
    redis::Redis,
    settings::RedisServer,
};

pub use responder::{Answer, Question, Responder};

const CONNECT: Duration = Duration::from_millis(500);
const WAIT: Duration = Duration::from_secs(2);
/// Longer than any wait for an entry of a list.
const ANSWER: Duration = Duration::from_secs(5);
const RECONNECT: Duration = Duration::from_millis(500);
/// A connection that held for so long had worked: longer than making one and waiting for one answer may take.
const STEADY: Duration = Duration::from_secs(15);
/// What is not fetched within this time is not waited for by anybody.
const LIST_LIFETIME: Duration = Duration::from_mins(1);
const LONGEST_LIST: isize = 10_000;

/// Tells and asks.
pub trait Bus: Send + Sync {
    /// Tells all who listen to the event's stream, and waits for none of them. What must be told if a change is
    /// committed, and only then, goes through [`super::enqueue`] instead.
    fn emit(&self, event: &Event) -> impl Future<Output = Result<(), BusError>> + Send;

    /// Asks whoever answers at an address. Each try has `patience`, and all have the time that is left in `cx`.
    fn send(
        &self,
        cx: &Cx,
        to: &str,
        question: &Value,
        patience: Duration,
    ) -> impl Future<Output = Result<Value, BusError>> + Send;
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// Redis cannot be reached.
    #[error("the bus cannot be reached")]
    Unreachable(#[source] RedisError),
    /// Nobody answered in time.
    #[error("no answer in time")]
    Timeout,
    /// Too many calls before this one failed.
    #[error("not asked: the calls before failed")]
    Open,
    /// The answer is no.
    #[error("{slug}: {detail}")]
    Refused {
        /// The status that HTTP has for it.
        status: u16,
        /// Its name for programs.
        slug: String,
        /// What is wrong.
        detail: String,
    },
}

impl BusError {
    fn may_pass(&self) -> bool {
        match self {
            BusError::Unreachable(_) | BusError::Timeout => true,
            BusError::Refused { status, .. } => *status >= 500,
            BusError::Open => false,
        }
    }

    fn outcome(&self) -> &'static str {
        match self {
            BusError::Unreachable(_) => "unreachable",
            BusError::Timeout => "timeout",
            BusError::Open => "open",
            BusError::Refused { .. } => "refused",
        }
    }
}

impl From<BusError> for Problem {
    fn from(error: BusError) -> Self {
        match error {
            BusError::Timeout => Problem::timeout(),
            BusError::Unreachable(_) | BusError::Open => Problem::unavailable("the bus", &error),
            BusError::Refused { status: 404, ref detail, .. } => {
                Problem::new(Kind::NotFound, "not-found", detail)
            }
            BusError::Refused { .. } => Problem::internal(&error),
        }
    }
}

/// How often and how long to try.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Tries after the first.
    pub retries: u32,
    /// Wait before the first of them; twice as long before each further one.
    pub first_wait: Duration,
    /// After so many failures in a row an address is not asked any more.
    pub failures: u32,
    /// For so long; then one call tries again.
    pub open: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self { retries: 3, first_wait: Duration::from_secs(1), failures: 5, open: Duration::from_mins(1) }
    }
}

/// The bus on a Redis server. Clones share it.
#[derive(Clone)]
pub struct RedisBus {
    client: Client,
    redis: Redis,
    metrics: Metrics,
    policy: Policy,
    replies: Arc<str>,
    waiting: Waiting,
    breakers: Arc<Mutex<HashMap<String, Breaker>>>,
}

/// Who waits for an answer, by the id of the question.
type Waiting = Arc<Mutex<HashMap<Uuid, mpsc::Sender<Answered>>>>;
type Answered = Result<Value, Refusal>;

/// A question on its way.
#[derive(Debug, Serialize, Deserialize)]
struct Call {
    id: Uuid,
    /// The key that is there while the asker waits.
    alive: String,
    reply_to: String,
    headers: Vec<(String, String)>,
    data: Value,
}

/// An answer on its way.
#[derive(Debug, Serialize, Deserialize)]
struct Reply {
    id: Uuid,
    answer: Answered,
}

#[derive(Debug, Serialize, Deserialize)]
struct Refusal {
    status: u16,
    slug: String,
    detail: String,
}

impl RedisBus {
    /// The bus on that server; `instance` is for people who look into it. Must be called within a runtime.
    pub fn new(redis: &RedisServer, instance: &str, metrics: Metrics, policy: Policy) -> RedisResult<Self> {
        Ok(Self {
            client: Client::open(redis.redis_url.0.clone())?,
            redis: Redis::new(redis.redis_url.0.clone())?,
            metrics,
            policy,
            replies: format!("reply:{instance}:{}", Uuid::new_v4()).into(),
            waiting: Arc::default(),
            breakers: Arc::default(),
        })
    }

    /// Receives the answers until dropped: without it every call times out.
    pub async fn run(self) {
        let mut outage = Outage::default();
        loop {
            let begun = Instant::now();
            if let Err(error) = self.receive().await {
                outage.failed(begun, &error, "no answers are received");
            }
            sleep(RECONNECT).await;
        }
    }

    async fn receive(&self) -> RedisResult<()> {
        let mut connection = blocking(&self.client).await?;
        loop {
            let Some(bytes) = next(&mut connection, &self.replies).await? else { continue };
            let Ok(reply) = serde_json::from_slice::<Reply>(&bytes) else { continue };
            let asker = lock(&self.waiting).get(&reply.id).cloned();
            // Nobody waits for it any more, or another try was answered at the same time.
            if asker.is_none_or(|asker| asker.try_send(reply.answer).is_err()) {
                debug!(id = %reply.id, "an answer came too late");
            }
        }
    }

    fn with_breaker<T>(&self, to: &str, act: impl FnOnce(&mut Breaker) -> T) -> T {
        let Policy { failures, open, .. } = self.policy;
        act(lock(&self.breakers).entry(to.to_owned()).or_insert_with(|| Breaker::new(failures, open)))
    }

    /// One try, if the breaker lets it through.
    async fn ask(&self, to: &str, asked: &mut Asked, patience: Duration) -> Result<Value, BusError> {
        if !self.with_breaker(to, |breaker| breaker.allows(Instant::now())) {
            return Err(BusError::Open);
        }
        let result = match self.put(to, asked, patience).await {
            Ok(()) => asked.answer(patience).await,
            Err(error) => Err(BusError::Unreachable(error)),
        };
        let failed = result.as_ref().is_err_and(BusError::may_pass);
        self.with_breaker(to, |breaker| breaker.note(failed, Instant::now()));
        result
    }

    /// Puts a question where it is found, and says for how long somebody waits for the answer.
    async fn put(&self, to: &str, asked: &mut Asked, patience: Duration) -> RedisResult<()> {
        asked.call.alive = format!("{}:{}", list_of(to), Uuid::new_v4());
        let mut put = pipe();
        put.atomic();
        put.cmd("SET").arg(&asked.call.alive).arg(1).arg("PX").arg(millis(patience).max(1)).ignore();
        push(&mut put, &list_of(to), &asked.call);
        self.redis.run_all(&put).await
    }
}

impl Bus for RedisBus {
    async fn emit(&self, event: &Event) -> Result<(), BusError> {
        self.redis.run(&wire::append(event)).await.map_err(BusError::Unreachable)
    }

    async fn send(&self, cx: &Cx, to: &str, question: &Value, patience: Duration) -> Result<Value, BusError> {
        let mut asked = Asked::new(self, cx, question);
        let mut result = Err(BusError::Timeout);
        for retry in 0..=self.policy.retries {
            if retry > 0 {
                // An answer to a try that was given up is an answer.
                let wait = self.policy.first_wait * 2_u32.saturating_pow(retry - 1);
                result = asked.answer(wait.min(left(cx))).await;
            }
            if result.as_ref().is_err_and(BusError::may_pass) && !left(cx).is_zero() {
                result = self.ask(to, &mut asked, patience.min(left(cx))).await;
            }
            if !result.as_ref().is_err_and(BusError::may_pass) {
                break;
            }
        }
        self.metrics.asked(to, result.as_ref().map_or_else(BusError::outcome, |_| "answered"));
        result
    }
}

/// A question that an answer is waited for; not any more when dropped.
struct Asked {
    call: Call,
    answers: mpsc::Receiver<Answered>,
    waiting: Waiting,
}

impl Asked {
    fn new(bus: &RedisBus, cx: &Cx, question: &Value) -> Self {
        let id = Uuid::new_v4();
        let (sender, answers) = mpsc::channel(1);
        lock(&bus.waiting).insert(id, sender);
        let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
        let headers = cx.passed_on().filter_map(|(name, value)| Some((name.to_string(), text(value)?)));
        let call = Call {
            id,
            alive: String::new(),
            reply_to: bus.replies.to_string(),
            headers: headers.collect(),
            data: question.clone(),
        };
        Self { call, answers, waiting: bus.waiting.clone() }
    }

    async fn answer(&mut self, patience: Duration) -> Result<Value, BusError> {
        match timeout(patience, self.answers.recv()).await {
            Ok(Some(Ok(value))) => Ok(value),
            Ok(Some(Err(Refusal { status, slug, detail }))) => {
                Err(BusError::Refused { status, slug, detail })
            }
            Ok(None) | Err(_) => Err(BusError::Timeout),
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        lock(&self.waiting).remove(&self.call.id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn left(cx: &Cx) -> Duration {
    cx.deadline().saturating_duration_since(Instant::now())
}

/// The list in which the questions of an address wait.
fn list_of(address: &str) -> String {
    format!("call:{address}")
}

/// Adds the commands that append to a list which is bounded, and gone when nobody fetches from it.
fn push<T: Serialize>(commands: &mut Pipeline, list: &str, entry: &T) {
    let text = serde_json::to_vec(entry).expect("text, numbers and JSON always serialize");
    commands.cmd("RPUSH").arg(list).arg(text).ignore();
    commands.cmd("LTRIM").arg(list).arg(-LONGEST_LIST).arg(-1).ignore();
    commands.cmd("PEXPIRE").arg(list).arg(millis(LIST_LIFETIME)).ignore();
}

/// A connection that fails again and again: only the beginning of an outage is a warning.
#[derive(Default)]
struct Outage {
    told: bool,
}

impl Outage {
    /// Tells that a connection failed that was begun then.
    fn failed(&mut self, begun: Instant, error: &RedisError, lost: &str) {
        if self.begins(begun.elapsed()) {
            warn!(error = chain(error), again_every = ?RECONNECT, "{lost}");
        } else {
            debug!(error = chain(error), "{lost}");
        }
    }

    /// Whether an outage begins with the failure of a connection that held for so long.
    fn begins(&mut self, held: Duration) -> bool {
        !std::mem::replace(&mut self.told, true) || held >= STEADY
    }
}

/// A connection for commands that block.
async fn blocking(client: &Client) -> RedisResult<MultiplexedConnection> {
    let config =
        AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(ANSWER));
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// Takes the next entry of a list; waits a moment for one when there is none.
async fn next(connection: &mut MultiplexedConnection, list: &str) -> RedisResult<Option<Vec<u8>>> {
    let mut take = cmd("BLPOP");
    take.arg(list).arg(WAIT.as_secs());
    let taken: Option<(String, Vec<u8>)> = take.query_async(connection).await?;
    Ok(taken.map(|(_, entry)| entry))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
