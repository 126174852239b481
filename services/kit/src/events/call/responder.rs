//! The answering side of the bus: any number of instances take the questions of an address, each of them once.
//! A question whose asker has stopped waiting, as Redis' own clock says, is not taken.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use ::redis::{Client, RedisResult, Script, pipe};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tracing::{Instrument as _, debug, info_span, warn};
use uuid::Uuid;

use super::{Call, Outage, RECONNECT, Refusal, Reply, blocking, list_of, next, push};
use crate::{
    cx::Cx,
    errors::{Kind, Problem, chain},
    redis::Redis,
    settings::RedisServer,
};

/// Questions that are being answered at once; the others wait in Redis, where another instance may take them.
const AT_ONCE: usize = 32;
/// KEYS: what is there while the asker waits. Who deletes it has the question; returns the ms that are left, or 0.
const TAKE: &str = r"
local left = redis.call('PTTL', KEYS[1])
if left <= 0 then return 0 end
redis.call('DEL', KEYS[1])
return left
";

/// What is asked.
#[derive(Debug)]
pub struct Question {
    /// The same in every try of the call: what must happen once is told apart by it.
    pub id: Uuid,
    /// The question.
    pub data: Value,
}

/// Who answers.
pub trait Answer: Send + Sync + 'static {
    /// Answers a question, within the time that is left in `cx`.
    fn answer(&self, cx: &Cx, question: Question) -> impl Future<Output = Result<Value, Problem>> + Send;
}

/// Answers the questions of an address.
pub struct Responder {
    client: Client,
    desk: Desk,
    address: String,
}

/// What it takes to answer one question.
#[derive(Clone)]
struct Desk {
    redis: Redis,
    take: Arc<Script>,
}

impl Responder {
    /// Whoever answers at that address of the bus on that server. Must be called within a runtime.
    pub fn new(redis: &RedisServer, address: &str) -> RedisResult<Self> {
        Ok(Self {
            client: Client::open(redis.redis_url.0.clone())?,
            desk: Desk { redis: Redis::new(redis.redis_url.0.clone())?, take: Arc::new(Script::new(TAKE)) },
            address: address.to_owned(),
        })
    }

    /// Answers until dropped. A question that is being answered then is asked again.
    pub async fn run<A: Answer>(self, answer: A) {
        let answer = Arc::new(answer);
        let mut outage = Outage::default();
        loop {
            let begun = Instant::now();
            if let Err(error) = self.serve(&answer).await {
                outage.failed(begun, &error, &format!("no questions to {} are heard", self.address));
            }
            sleep(RECONNECT).await;
        }
    }

    async fn serve<A: Answer>(&self, answer: &Arc<A>) -> RedisResult<()> {
        let mut connection = blocking(&self.client).await?;
        let mut answering = JoinSet::new();
        loop {
            while answering.try_join_next().is_some() {}
            if answering.len() >= AT_ONCE {
                answering.join_next().await;
            }
            let Some(bytes) = next(&mut connection, &list_of(&self.address)).await? else { continue };
            match serde_json::from_slice::<Call>(&bytes) {
                Ok(call) => {
                    answering.spawn(self.desk.clone().answer(answer.clone(), call));
                }
                Err(error) => warn!(address = self.address, %error, "a question cannot be read"),
            }
        }
    }
}

impl Desk {
    async fn answer<A: Answer>(self, answer: Arc<A>, call: Call) {
        let Call { id, alive, reply_to, headers, data } = call;
        let left: u64 = match self.redis.script(self.take.prepare_invoke().key(&alive)).await {
            Ok(left) => left,
            Err(error) => return warn!(%id, error = chain(&error), "a question is left"),
        };
        if left == 0 {
            return debug!(%id, "nobody waits for an answer any more");
        }
        let cx = context(&headers, Duration::from_millis(left));
        let span = info_span!("question", %id, trace_id = cx.trace_id());
        let answered = answer_in_time(&*answer, &cx, Question { id, data }).instrument(span).await;
        let refusal = |problem: Problem| Refusal {
            status: problem.kind().status().as_u16(),
            slug: problem.slug().to_owned(),
            detail: problem.detail().to_owned(),
        };
        let mut reply = pipe();
        reply.atomic();
        push(&mut reply, &reply_to, &Reply { id, answer: answered.map_err(refusal) });
        if let Err(error) = self.redis.run_all::<()>(&reply).await {
            warn!(%id, error = chain(&error), "an answer is lost");
        }
    }
}

fn context(headers: &[(String, String)], left: Duration) -> Cx {
    let header = |(name, value): &(String, String)| {
        Some((name.parse::<HeaderName>().ok()?, HeaderValue::from_str(value).ok()?))
    };
    let headers: HeaderMap = headers.iter().filter_map(header).collect();
    Cx::new(&headers, Instant::now(), left)
}

async fn answer_in_time<A: Answer>(answer: &A, cx: &Cx, question: Question) -> Result<Value, Problem> {
    let left = cx.deadline().saturating_duration_since(Instant::now());
    match timeout(left, AssertUnwindSafe(answer.answer(cx, question)).catch_unwind()).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(_)) => Err(Problem::new(Kind::Internal, "internal", "whoever answers here failed")),
        Err(_) => Err(Problem::timeout()),
    }
}
