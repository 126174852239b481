//! The connection to Redis: made when first used, made again when lost, never waited for long.
//!
//! What is kept in Redis can be missed, so a command fails fast and the caller goes on without. After a failure Redis
//! is left alone for a moment: a server that hangs must not slow down every request. That it is gone is logged once,
//! and once that it is back.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ::redis::{
    Client, Cmd, ConnectionInfo, FromRedisValue, Pipeline, RedisError, RedisResult, ScriptInvocation,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

const PATIENCE: Duration = Duration::from_millis(500);
const REST: Duration = Duration::from_millis(500);

/// A handle to Redis; clones share the connection.
#[derive(Clone)]
pub struct Redis {
    manager: ConnectionManager,
    /// When the last command failed for want of a server.
    lost: Arc<Mutex<Option<Instant>>>,
}

impl Redis {
    /// A handle; nothing is connected yet. Must be called within a runtime.
    pub fn new(server: ConnectionInfo) -> RedisResult<Self> {
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let manager = ConnectionManager::new_lazy_with_config(Client::open(server)?, config)?;
        Ok(Self { manager, lost: Arc::default() })
    }

    /// Runs one command.
    pub async fn run<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let mut manager = self.manager.clone();
        self.noting(command.query_async(&mut manager)).await
    }

    /// Runs several commands in one round trip.
    pub async fn run_all<T: FromRedisValue>(&self, commands: &Pipeline) -> RedisResult<T> {
        let mut manager = self.manager.clone();
        self.noting(commands.query_async(&mut manager)).await
    }

    /// Runs a script.
    pub async fn script<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> RedisResult<T> {
        let mut manager = self.manager.clone();
        self.noting(script.invoke_async(&mut manager)).await
    }

    async fn noting<T>(&self, command: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
        let lost = self.lost_since();
        if lost.is_some_and(|since| since.elapsed() < REST) {
            return Err(io::Error::from(io::ErrorKind::NotConnected).into());
        }
        let late = |_| RedisError::from(io::Error::from(io::ErrorKind::TimedOut));
        let result = timeout(2 * PATIENCE, command).await.map_err(late).flatten();
        match result.as_ref().err().filter(|error| error.is_io_error()) {
            Some(error) => {
                if self.note(Some(Instant::now())).is_none() {
                    warn!(%error, "redis is gone; going on without");
                }
            }
            None => {
                if lost.is_some() && self.note(None).is_some() {
                    info!("redis is back");
                }
            }
        }
        result
    }

    fn lost_since(&self) -> Option<Instant> {
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, lost: Option<Instant>) -> Option<Instant> {
        std::mem::replace(&mut *self.lost.lock().unwrap_or_else(PoisonError::into_inner), lost)
    }
}

#[cfg(test)]
mod tests {
    use ::redis::cmd;
    use tokio::net::TcpListener;

    use super::*;
    use crate::testing::{RedisServer, eventually};

    #[tokio::test]
    async fn a_server_that_hangs_is_waited_for_once_and_then_left_alone() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", silent.local_addr().unwrap());
        let redis = Redis::new(url.parse().unwrap()).unwrap();
        assert!(redis.run::<()>(&cmd("PING")).await.is_err());
        let started = Instant::now();
        for _ in 0..20 {
            assert!(redis.run::<()>(&cmd("PING")).await.is_err());
        }
        assert!(started.elapsed() < 10 * PATIENCE, "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn a_server_that_comes_back_is_used_again() {
        let server = RedisServer::start();
        let redis = Redis::new(server.url().parse().unwrap()).unwrap();
        redis.run::<()>(&cmd("PING")).await.unwrap();
        server.stop();
        assert!(redis.run::<()>(&cmd("PING")).await.is_err());
        server.resume();
        eventually("redis is used again", async || redis.run::<()>(&cmd("PING")).await.is_ok()).await;
        // An answer that is an error is still an answer.
        assert!(redis.run::<i64>(cmd("SET").arg("x")).await.is_err());
        redis.run::<()>(&cmd("PING")).await.unwrap();
    }
}
