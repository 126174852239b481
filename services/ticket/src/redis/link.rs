//! The connection to Redis on which tickets are held, and the run of the server that it leads to.
//!
//! Beside the kit's handle, which is made for what can be missed: it gives up after half a second and then rests, and
//! in a rush that would turn one slow answer into a pause of the sale. Here a command has as long as its request, all
//! share one connection, and one that breaks is replaced by whoever comes first.

use std::{
    sync::{Arc, Mutex as SyncMutex, PoisonError},
    time::Duration,
};

use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, FromRedisValue, Pipeline, RedisError,
    RedisResult, Script, ServerErrorKind, aio::MultiplexedConnection, cmd,
};
use tokio::sync::Mutex;
use tracing::{info, warn};

/// Longest to wait for an answer, and for a connection.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection, and the run of the server at its other end.
pub struct Session {
    connection: MultiplexedConnection,
    run: String,
}

impl Session {
    /// The run of the server.
    pub fn run(&self) -> &str {
        &self.run
    }
}

/// A handle to Redis; clones share the connection.
#[derive(Clone)]
pub struct Link(Arc<Shared>);

struct Shared {
    client: Client,
    current: SyncMutex<Option<Arc<Session>>>,
    connecting: Mutex<()>,
}

impl Link {
    /// A handle; nothing is connected yet.
    pub fn new(server: ConnectionInfo) -> RedisResult<Self> {
        let client = Client::open(server)?;
        Ok(Self(Arc::new(Shared { client, current: SyncMutex::default(), connecting: Mutex::default() })))
    }

    /// The connection, made if there is none.
    pub async fn session(&self) -> RedisResult<Arc<Session>> {
        if let Some(session) = self.current() {
            return Ok(session);
        }
        let _one_at_a_time = self.0.connecting.lock().await;
        if let Some(session) = self.current() {
            return Ok(session);
        }
        let mut connection = self.connect(Some(PATIENCE)).await?;
        let told: String = cmd("INFO").arg("server").query_async(&mut connection).await?;
        let run =
            run_of(&told).ok_or_else(|| RedisError::from((ErrorKind::Parse, "INFO names no run_id")))?;
        info!(run, "connected to redis");
        let session = Arc::new(Session { connection, run: run.to_owned() });
        *self.lock() = Some(session.clone());
        Ok(session)
    }

    /// A connection of its own, for commands that wait.
    pub async fn connect(&self, patience: Option<Duration>) -> RedisResult<MultiplexedConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(patience);
        self.0.client.get_multiplexed_async_connection_with_config(&config).await
    }

    /// Runs one command.
    pub async fn run<T: FromRedisValue>(&self, session: &Arc<Session>, command: &Cmd) -> RedisResult<T> {
        let answer = command.query_async(&mut session.connection.clone()).await;
        self.noting(session, answer)
    }

    /// Runs several commands in one round trip.
    pub async fn run_all<T: FromRedisValue>(
        &self,
        session: &Arc<Session>,
        commands: &Pipeline,
    ) -> RedisResult<T> {
        let answer = commands.query_async(&mut session.connection.clone()).await;
        self.noting(session, answer)
    }

    /// Runs a script whose keys and arguments are in the call.
    pub async fn call<T: FromRedisValue>(
        &self,
        session: &Arc<Session>,
        script: &Script,
        call: &Cmd,
    ) -> RedisResult<T> {
        let answer = self.run(session, call).await;
        match answer.as_ref().err().map(RedisError::kind) {
            Some(ErrorKind::Server(ServerErrorKind::NoScript)) => {}
            _ => return answer,
        }
        let loaded = script.prepare_invoke().load_async(&mut session.connection.clone()).await;
        self.noting(session, loaded)?;
        self.run(session, call).await
    }

    fn noting<T>(&self, session: &Arc<Session>, answer: RedisResult<T>) -> RedisResult<T> {
        let Some(error) = answer.as_ref().err().filter(|error| error.is_io_error()) else { return answer };
        // Others may have replaced it meanwhile; those who still use it go on, and fail or not by themselves.
        let mut current = self.lock();
        if current.as_ref().is_some_and(|now| Arc::ptr_eq(now, session)) {
            warn!(%error, "the connection to redis is given up");
            *current = None;
        }
        drop(current);
        answer
    }

    fn current(&self) -> Option<Arc<Session>> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Session>>> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The beginning of a call of a script with so many keys.
pub fn invoke(script: &Script, keys: usize) -> Cmd {
    let mut call = cmd("EVALSHA");
    call.arg(script.get_hash()).arg(keys);
    call
}

fn run_of(told: &str) -> Option<&str> {
    told.lines().find_map(|line| line.strip_prefix("run_id:")).map(str::trim)
}

#[cfg(test)]
mod tests {
    use shop_kit::testing::{RedisServer, eventually};

    use super::*;

    #[tokio::test]
    async fn a_server_that_was_restarted_is_another_run() {
        let server = RedisServer::start();
        let link = Link::new(server.url().parse().unwrap()).unwrap();
        let first = link.session().await.unwrap();
        assert_eq!(link.session().await.unwrap().run(), first.run());
        server.stop();
        assert!(link.run::<()>(&first, &cmd("PING")).await.is_err());
        server.resume();
        eventually("there is a new connection", async || {
            link.session().await.is_ok_and(|session| session.run() != first.run())
        })
        .await;
        // The old connection never leads to the new server.
        assert!(link.run::<()>(&first, &cmd("PING")).await.is_err());
    }

    #[test]
    fn the_run_is_read_from_what_the_server_tells() {
        assert_eq!(run_of("# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\ntcp_port:1\r\n"), Some("abc"));
        assert_eq!(run_of("# Server\r\n"), None);
    }
}
