//! Mail over SMTP (RFC 5321), as little of it as a client needs to deliver a mail, and strictly that.
//!
//! `session` decides what each line is answered; here are the socket, its limits and its deadlines. The server speaks
//! first. No TLS: that is the mesh's.

pub mod session;

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

use crate::{
    http::{now, taken},
    messages::Messages,
};
use session::{Mail, Next, Session};

/// Longest line with its end (RFC 5321, 4.5.3.1.6).
const LONGEST_LINE: u64 = 1000;
/// How long a client may be silent (RFC 5321, 4.5.3.2.7 allows five minutes; here nobody thinks that long).
const PATIENCE: Duration = Duration::from_mins(1);
/// After a failed accept (no descriptors left) before the next.
const REST: Duration = Duration::from_millis(100);

/// Takes mail until told to stop.
pub async fn serve(
    listener: TcpListener,
    messages: Arc<Messages>,
    conversations: &TaskTracker,
    shutdown: &CancellationToken,
) -> io::Result<()> {
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        let Ok((socket, peer)) = accepted else {
            tokio::time::sleep(REST).await;
            continue;
        };
        let (messages, shutdown) = (messages.clone(), shutdown.clone());
        conversations.spawn(async move {
            let talked = shutdown.run_until_cancelled(converse(socket, &messages)).await;
            if let Some(Err(error)) = talked {
                debug!(%peer, %error, "a conversation broke off");
            }
        });
    }
    Ok(())
}

async fn converse(socket: TcpStream, messages: &Messages) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut socket = BufReader::new(socket);
    let mut session = Session::new();
    socket.write_all(session::GREETING.as_bytes()).await?;
    let mut line = Vec::new();
    while let Some(read) = read_line(&mut socket, &mut line).await? {
        match session.line(read) {
            Next::Listen => {}
            Next::Say(reply) => socket.write_all(reply.as_bytes()).await?,
            Next::Take(mail) => {
                keep(messages, mail);
                socket.write_all(session::TAKEN.as_bytes()).await?;
            }
            Next::End(reply) => return socket.write_all(reply.as_bytes()).await,
        }
    }
    Ok(())
}

/// What came: a line without its end, or why it is none.
pub type Line<'a> = Result<&'a [u8], Broken>;

/// Why something is not a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// It goes on for longer than a line may.
    TooLong,
    /// It has a CR or an LF of its own: what one server takes for the end of a mail must not be text to another.
    Bare,
}

/// The next line, or nothing when the client is done.
async fn read_line<'a>(
    from: &mut (impl AsyncBufRead + Unpin),
    line: &'a mut Vec<u8>,
) -> io::Result<Option<Line<'a>>> {
    line.clear();
    let mut limited = from.take(LONGEST_LINE);
    let read = timeout(PATIENCE, limited.read_until(b'\n', line)).await??;
    if read == 0 {
        return Ok(None);
    }
    let Some(text) = line.strip_suffix(b"\n") else { return Ok(Some(Err(Broken::TooLong))) };
    match text.strip_suffix(b"\r") {
        Some(text) if !text.contains(&b'\r') => Ok(Some(Ok(text))),
        _ => Ok(Some(Err(Broken::Bare))),
    }
}

fn keep(messages: &Messages, mail: Mail) {
    taken(messages, mail.message(now()));
}
