//! Asks Redis about global rate limits. Stands after the local limits on the inbound path, and only where a rule is
//! global: one round trip and one script for all of a request's limits, within a fixed budget. Without an answer in time each limit
//! says itself whether it lets the request through. What is asked and what an answer means is `policy/rate_limit/global`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, ErrorKind, RedisError, RedisResult, Script, ServerErrorKind};
use tokio::time::timeout;
use tracing::{info, warn};

use crate::policy::rate_limit::global::{ANSWERS, GlobalCheck, SCRIPT};
use crate::policy::rate_limit::{Standing, tighter};
use crate::reject::Reject;
use crate::telemetry::metrics::{GlobalLimit, Metrics};

/// What a request may wait for Redis. A mesh that answers in a millisecond must not wait long for its counters.
const BUDGET: Duration = Duration::from_millis(50);
const CONNECT: Duration = Duration::from_secs(2);
/// Longest pause between two attempts to connect again.
const AGAIN: Duration = Duration::from_secs(1);

/// The connection to Redis, made at the first use and again by itself; shared by all workers.
pub struct GlobalLimits {
    script: Script,
    connection: Mutex<Option<Known>>,
    failing: AtomicBool,
}

/// Address and connection.
type Known = (Box<str>, ConnectionManager);

impl std::fmt::Debug for GlobalLimits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GlobalLimits").finish_non_exhaustive()
    }
}

impl Default for GlobalLimits {
    fn default() -> Self {
        let script = Script::new(SCRIPT);
        Self { script, connection: Mutex::new(None), failing: AtomicBool::new(false) }
    }
}

impl GlobalLimits {
    /// Counts a request at every limit, or says which of them refuses; then it is counted by none. Says how the tightest
    /// stands that wants to be told of. `url` is the mesh's Redis; without one all limits go without answer.
    pub async fn check(
        &self,
        url: Option<&str>,
        checks: &[GlobalCheck],
        metrics: &Metrics,
    ) -> Result<Option<Standing>, Reject> {
        let answers = match timeout(BUDGET, self.ask(url, checks)).await {
            Ok(Ok(answers)) if answers.len() == ANSWERS * checks.len() => answers,
            Ok(Ok(_)) => return self.without_answer("Redis answers something else", checks, metrics),
            Ok(Err(error)) => return self.without_answer(&error.to_string(), checks, metrics),
            Err(_) => return self.without_answer("no answer in time", checks, metrics),
        };
        if self.failing.swap(false, Ordering::Relaxed) {
            info!("global rate limits are counted again");
        }
        let mut tightest = None;
        for (check, answer) in checks.iter().zip(answers.as_chunks().0) {
            let verdict = check.verdict(*answer);
            metrics.global_limit(if verdict.is_ok() { GlobalLimit::Allowed } else { GlobalLimit::Limited });
            tightest = tighter(tightest, verdict?);
        }
        Ok(tightest)
    }

    async fn ask(&self, url: Option<&str>, checks: &[GlobalCheck]) -> RedisResult<Vec<i64>> {
        let mut connection = self.connection(url)?;
        let question = self.question(checks);
        match question.query_async(&mut connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                // Redis was started anew and does not know the script yet.
                self.script.load_async(&mut connection).await?;
                question.query_async(&mut connection).await
            }
            answers => answers,
        }
    }

    fn question(&self, checks: &[GlobalCheck]) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(self.script.get_hash()).arg(checks.len());
        for check in checks {
            command.arg(check.key());
        }
        for check in checks {
            let (kind, span, most) = check.args();
            command.arg(kind).arg(span).arg(most);
        }
        command
    }

    /// The connection to this address; the configuration may have named another one before.
    fn connection(&self, url: Option<&str>) -> RedisResult<ConnectionManager> {
        let url =
            url.ok_or_else(|| RedisError::from((ErrorKind::InvalidClientConfig, "the mesh names no Redis")))?;
        let mut current = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, connection)) = current.as_ref().filter(|(known, _)| **known == *url) {
            return Ok(connection.clone());
        }
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(CONNECT))
            .set_max_delay(AGAIN);
        let connection = ConnectionManager::new_lazy_with_config(Client::open(url)?, config)?;
        *current = Some((url.into(), connection.clone()));
        Ok(connection)
    }

    /// Every limit decides for itself; the log hears of an outage once.
    fn without_answer(
        &self,
        why: &str,
        checks: &[GlobalCheck],
        metrics: &Metrics,
    ) -> Result<Option<Standing>, Reject> {
        if !self.failing.swap(true, Ordering::Relaxed) {
            warn!(error = why, "Redis cannot be asked for global rate limits");
        }
        for check in checks {
            let verdict = check.without_answer();
            let open = if verdict.is_ok() { GlobalLimit::FailedOpen } else { GlobalLimit::FailedClosed };
            metrics.global_limit(open);
            verdict?;
        }
        Ok(None)
    }
}
