//! The connection to Redis: made when first used, made again when lost, never waited for long.
//!
//! What is kept in Redis can be missed, so a command fails fast and the caller goes on without. That Redis is gone
//! is logged once, and once that it is back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ::redis::{
    Client, Cmd, ConnectionInfo, FromRedisValue, Pipeline, RedisError, RedisResult, ScriptInvocation,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tracing::{info, warn};

const PATIENCE: Duration = Duration::from_millis(500);

/// A handle to Redis; clones share the connection.
#[derive(Clone)]
pub struct Redis {
    manager: ConnectionManager,
    up: Arc<AtomicBool>,
}

impl Redis {
    /// A handle; nothing is connected yet. Must be called within a runtime.
    pub fn new(server: ConnectionInfo) -> RedisResult<Self> {
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let manager = ConnectionManager::new_lazy_with_config(Client::open(server)?, config)?;
        Ok(Self { manager, up: Arc::new(AtomicBool::new(true)) })
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
        let late = |_| RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
        let result = tokio::time::timeout(2 * PATIENCE, command).await.map_err(late).flatten();
        let lost = result.as_ref().err().filter(|error| error.is_io_error());
        let was_up = self.up.swap(lost.is_none(), Ordering::Relaxed);
        match lost {
            Some(error) if was_up => warn!(%error, "redis is gone; going on without"),
            None if !was_up => info!("redis is back"),
            _ => {}
        }
        result
    }
}
