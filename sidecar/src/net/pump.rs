//! Bytes both ways between two streams until both have closed, either breaks, or nothing has gone either way for too
//! long. What went is told while it goes. The time is looked at every few seconds and never per read, so an idle stream
//! ends up to that much late; what is idle and what is told is the caller's to say.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional_with_sizes};
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

const BUFFER: usize = 16 * 1024;
/// Between two looks; a shorter limit is looked at more often.
const LOOK: Duration = Duration::from_secs(5);
const LOOK_AT_LEAST: Duration = Duration::from_millis(50);
/// For saying goodbye to both sides of a stream that was idle.
const GOODBYE: Duration = Duration::from_secs(1);

/// Bytes that went each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// From the client.
    pub received: u64,
    /// To the client.
    pub sent: u64,
}

/// Copies both ways. `idle`: close after this long without a byte. `tell` is given what went since it was called last.
pub async fn pump<C, U>(client: C, upstream: U, idle: Option<Duration>, tell: impl FnMut(Bytes)) -> Bytes
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (received, sent) = (Cell::new(0), Cell::new(0));
    let mut client = Metered { io: client, read: &received };
    let mut upstream = Metered { io: upstream, read: &sent };
    let mut meter = Meter { received: &received, sent: &sent, told: Bytes::default(), tell };
    let copied = tokio::select! {
        biased;
        copied = copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER) => Some(copied),
        () = meter.watch(idle) => None,
    };
    match copied {
        Some(Ok(_)) => {}
        Some(Err(error)) => debug!(%error, "connection broke"),
        None => {
            debug!(?idle, "connection closed: nothing went either way for too long");
            let both = async { tokio::join!(client.shutdown(), upstream.shutdown()) };
            // Both are closed in any case, by dropping them.
            drop(timeout(GOODBYE, both).await);
        }
    }
    meter.look()
}

/// Sees what goes, and tells it.
struct Meter<'a, F> {
    received: &'a Cell<u64>,
    sent: &'a Cell<u64>,
    told: Bytes,
    tell: F,
}

impl<F: FnMut(Bytes)> Meter<'_, F> {
    /// Tells what is new; gives what went so far.
    fn look(&mut self) -> Bytes {
        let now = Bytes { received: self.received.get(), sent: self.sent.get() };
        if now != self.told {
            let Bytes { received, sent } = self.told;
            (self.tell)(Bytes { received: now.received - received, sent: now.sent - sent });
            self.told = now;
        }
        now
    }

    /// Ends when nothing has gone for `idle`.
    async fn watch(&mut self, idle: Option<Duration>) {
        let every = idle.map_or(LOOK, |idle| idle.clamp(LOOK_AT_LEAST, LOOK));
        let (mut seen, mut since) = (self.look(), Instant::now());
        loop {
            sleep(every).await;
            let now = Instant::now();
            let bytes = self.look();
            if bytes != seen {
                (seen, since) = (bytes, now);
            } else if idle.is_some_and(|idle| now.saturating_duration_since(since) >= idle) {
                return;
            }
        }
    }
}

/// A stream whose reads are counted.
struct Metered<'a, S> {
    io: S,
    read: &'a Cell<u64>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        self.read.set(self.read.get() + (buf.filled().len() - before) as u64);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    /// A client and an application.
    type Ends = (DuplexStream, DuplexStream);

    /// Both ends far from the pump, and both that it is given.
    fn streams() -> (Ends, Ends) {
        let ((client, near_client), (app, near_app)) = (duplex(64), duplex(64));
        ((client, app), (near_client, near_app))
    }

    async fn in_use_for_ten_minutes(from: &mut DuplexStream, to: &mut DuplexStream) {
        for _ in 0..10 {
            sleep(Duration::from_secs(55)).await;
            from.write_all(b"x").await.unwrap();
            assert_eq!(to.read_u8().await.unwrap(), b'x');
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_without_bytes_is_closed_after_its_time_and_not_before() {
        let ((mut client, mut app), (near_client, near_app)) = streams();
        let far = async {
            in_use_for_ten_minutes(&mut app, &mut client).await;
            let last = Instant::now();
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "idle, it ends");
            assert_eq!(app.read(&mut [0]).await.unwrap(), 0);
            last.elapsed()
        };
        let (bytes, closed_after) = tokio::join!(pump(near_client, near_app, Some(MINUTE), |_| ()), far);
        assert_eq!(bytes, Bytes { received: 0, sent: 10 });
        assert!((MINUTE..=MINUTE + 2 * LOOK).contains(&closed_after), "{closed_after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_an_idle_stream_stays() {
        let ((client, mut app), (near_client, near_app)) = streams();
        let far = async {
            sleep(10_000 * MINUTE).await;
            drop(client);
            assert_eq!(app.read(&mut [0]).await.unwrap(), 0);
            drop(app);
        };
        tokio::join!(pump(near_client, near_app, None, |_| ()), far);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_are_told_while_the_stream_lives_and_each_once() {
        let ((mut client, mut app), (near_client, near_app)) = streams();
        let told = Cell::new(Bytes::default());
        let tell = |new: Bytes| {
            let Bytes { received, sent } = told.get();
            told.set(Bytes { received: received + new.received, sent: sent + new.sent });
        };
        let far = async {
            client.write_all(b"four").await.unwrap();
            app.write_all(b"sixsix").await.unwrap();
            sleep(2 * LOOK).await;
            assert_eq!(told.get(), Bytes { received: 4, sent: 6 }, "it is still open");
            client.write_all(b"more").await.unwrap();
            drop(client);
            let mut all = Vec::new();
            app.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, b"fourmore");
            drop(app);
        };
        let (bytes, ()) = tokio::join!(pump(near_client, near_app, Some(MINUTE), tell), far);
        assert_eq!((bytes, told.get()), (Bytes { received: 8, sent: 6 }, bytes));
    }
}
