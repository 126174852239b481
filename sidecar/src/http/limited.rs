//! A request's body within limits: not more bytes than it may have, and not slower than it must be while it is waited for.
//! Time that the upstream takes to want more does not count.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::received::{BodyError, PolledFrame, Received};
use crate::settings::Settings;

/// How slow a body may be.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Over this long,
    pub window: Duration,
    /// so many bytes must come.
    pub least: u64,
}

impl Pace {
    /// The pace for a body of this length.
    pub fn new(settings: &Settings, length: u64) -> Self {
        let window = settings.client_body_timeout;
        let least = u128::from(settings.limits.min_body_rate) * window.as_millis() / 1000;
        Self { window, least: u64::try_from(least).unwrap_or(u64::MAX).clamp(1, length.max(1)) }
    }

    /// The pace for a body of unknown length, which may be a stream: it must only not stand still for long.
    pub fn of_stream(settings: &Settings) -> Option<Self> {
        let window = settings.client_stream_timeout;
        (!window.is_zero()).then_some(Self { window, least: 1 })
    }
}

/// A body within limits.
#[derive(Debug)]
pub struct Limited {
    body: Received,
    left: u64,
    pace: Option<Pace>,
    waiting: Option<Waiting>,
}

/// How long it has been waited for and what came meanwhile.
#[derive(Debug)]
struct Waiting {
    late: Pin<Box<Sleep>>,
    /// Since when it is waited for; none: it is not.
    since: Option<Instant>,
    waited: Duration,
    came: u64,
}

impl Limited {
    /// At most `most` bytes of this body, at this pace.
    pub const fn new(body: Received, most: u64, pace: Option<Pace>) -> Self {
        Self { body, left: most, pace, waiting: None }
    }

    /// What it still has; for [`http_body::Body`].
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => self.wait(cx),
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(self.pass(frame))),
            ended @ Poll::Ready(_) => ended,
        }
    }

    fn pass(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyError> {
        let size = frame.data_ref().map_or(0, Bytes::len) as u64;
        if let Some(waiting) = &mut self.waiting {
            waiting.came += size;
            if let Some(since) = waiting.since.take() {
                waiting.waited += Instant::now().saturating_duration_since(since);
            }
        }
        self.left = self.left.checked_sub(size).ok_or(BodyError::TooLarge)?;
        Ok(frame)
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        let Some(Pace { window, least }) = self.pace else { return Poll::Pending };
        let waiting = self.waiting.get_or_insert_with(|| Waiting {
            late: Box::pin(sleep(window)),
            since: None,
            waited: Duration::ZERO,
            came: 0,
        });
        if waiting.since.is_none() {
            let now = Instant::now();
            waiting.since = Some(now);
            waiting.late.as_mut().reset(now + window.saturating_sub(waiting.waited));
        }
        while waiting.late.as_mut().poll(cx).is_ready() {
            if waiting.came < least {
                return Poll::Ready(Some(Err(BodyError::TooSlow)));
            }
            let now = Instant::now();
            (waiting.came, waiting.waited, waiting.since) = (0, Duration::ZERO, Some(now));
            waiting.late.as_mut().reset(now + window);
        }
        Poll::Pending
    }

    /// Whether it has ended; for [`http_body::Body`].
    pub fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    /// Its size; for [`http_body::Body`].
    pub fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
