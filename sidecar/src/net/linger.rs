//! The end of a connection that is refused: the other side is to see it, and what it was told before, not a reset.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::stream::Stream;

/// What a refused client may still be sending, and for how long that is read.
const MAX_UNREAD: u64 = 64 << 10;
const LINGER: Duration = Duration::from_millis(500);

/// Closes so that the client sees the end, not a reset: what it has sent must have been read.
pub async fn end(stream: Stream) {
    tell(stream, &[]).await;
}

/// As [`end`], after some last bytes.
pub async fn tell(mut stream: Stream, last: &[u8]) {
    let ended = async {
        stream.write_all(last).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut (&mut stream).take(MAX_UNREAD), &mut tokio::io::sink()).await
    };
    if let Ok(Err(error)) = timeout(LINGER, ended).await {
        tracing::debug!(%error, "refused connection ended");
    }
}
