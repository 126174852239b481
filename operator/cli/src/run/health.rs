//! Health checks: HTTP, TCP, or only that the process lives. Every second; more often while something starts. The
//! result goes to the board.

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::board::{Board, Part};
use crate::http::{Server, call};

/// Between two checks.
const EVERY: Duration = Duration::from_secs(1);
/// Between two checks of something that was not well yet, for the first while.
const EAGER: Duration = Duration::from_millis(150);
/// How long checks are eager.
const FIRST_WHILE: Duration = Duration::from_mins(1);
/// No answer for this long is a failure.
const PATIENCE: Duration = Duration::from_secs(3);

/// How the health of a process is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// `GET path` answers 2xx.
    Http(SocketAddr, String),
    /// It accepts connections.
    Tcp(SocketAddr),
}

impl Check {
    /// Asks once; empty for well, else why not.
    pub(crate) async fn ask(&self) -> String {
        match self {
            Self::Http(address, path) => match call(Server::Tcp(*address), Method::GET, path, PATIENCE).await
            {
                Ok((status, _)) if status.is_success() => String::new(),
                Ok((status, _)) => format!("GET http://{address}{path} answers {}", status.as_u16()),
                Err(error) => format!("GET http://{address}{path}: {error}"),
            },
            Self::Tcp(address) => match timeout(PATIENCE, TcpStream::connect(address)).await {
                Ok(Ok(_)) => String::new(),
                Ok(Err(error)) => format!("cannot connect to {address}: {error}"),
                Err(_) => format!("cannot connect to {address} within {} s", PATIENCE.as_secs()),
            },
        }
    }
}

/// Asks again and again and writes the answers to the board.
pub(crate) async fn watch(board: &Board, part: &Part, check: &Check) {
    let begin = Instant::now();
    loop {
        let unhealthy = check.ask().await;
        let eager = !unhealthy.is_empty() && begin.elapsed() < FIRST_WHILE;
        board.checked(part, &unhealthy);
        sleep(if eager { EAGER } else { EVERY }).await;
    }
}
