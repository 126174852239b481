//! The one body type of the data plane: one that was received passed through, something short of ours, or a body kept for a
//! retry. What must happen when a body has ended (a connection goes back to its pool, a request is counted) hangs on it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

use super::headers::strip_trailers;
use super::received::{BodyError, PolledFrame, Received};
use super::replay::Replay;
use crate::policy::fallback::Recording;

/// A request's or an answer's body.
#[derive(Debug)]
pub struct Body {
    inner: Inner,
    ended: Option<OnEnd>,
    recording: Option<Box<Recording>>,
}

#[derive(Debug)]
enum Inner {
    Empty,
    Full(Bytes),
    Received(Received),
    Replay(Replay),
}

/// How a body ended.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// All of it has passed; with its trailers.
    Complete(Option<&'a HeaderMap>),
    /// It broke off, or nobody wanted the rest.
    Aborted,
}

type Call = Box<dyn FnOnce(End<'_>)>;

/// Called once, when a body has ended or is dropped before.
struct OnEnd(Option<Call>);

impl fmt::Debug for OnEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnEnd")
    }
}

impl OnEnd {
    fn call(&mut self, end: End<'_>) {
        if let Some(call) = self.0.take() {
            call(end);
        }
    }
}

impl Drop for OnEnd {
    fn drop(&mut self) {
        self.call(End::Aborted);
    }
}

impl Body {
    /// No body.
    pub const fn empty() -> Self {
        Self { inner: Inner::Empty, ended: None, recording: None }
    }

    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self { inner: Inner::Full(bytes.into()), ended: None, recording: None }
    }

    /// As it was received.
    pub fn received(body: Received) -> Self {
        let inner = if body.is_end_stream() { Inner::Empty } else { Inner::Received(body) };
        Self { inner, ended: None, recording: None }
    }

    /// One that can be sent again.
    pub fn replay(replay: Replay) -> Self {
        Self { inner: Inner::Replay(replay), ended: None, recording: None }
    }

    /// Calls this once the body has ended, after what was to be called before.
    #[must_use]
    pub fn on_end(mut self, call: impl FnOnce(End<'_>) + 'static) -> Self {
        let earlier = self.ended.take();
        self.ended = Some(OnEnd(Some(match earlier {
            None => Box::new(call),
            Some(mut earlier) => Box::new(move |end| {
                earlier.call(end);
                call(end);
            }),
        })));
        self
    }

    /// Copies what passes for the stale cache.
    #[must_use]
    pub fn recorded(mut self, recording: Recording) -> Self {
        self.recording = Some(Box::new(recording));
        self
    }

    /// What was received, where nothing of it has been read yet.
    pub fn into_received(mut self) -> Option<Received> {
        match std::mem::replace(&mut self.inner, Inner::Empty) {
            Inner::Received(body) => Some(body),
            _ => None,
        }
    }

    fn record(&mut self, piece: &[u8]) {
        if self.recording.as_mut().is_some_and(|recording| !recording.push(piece)) {
            self.recording = None;
        }
    }

    fn complete(&mut self, trailers: Option<&HeaderMap>) {
        if let Some(recording) = self.recording.take() {
            recording.finish(Instant::now());
        }
        if let Some(mut ended) = self.ended.take() {
            ended.call(End::Complete(trailers));
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame {
        let this = self.get_mut();
        let mut frame = ready!(this.inner.poll_frame(cx));
        // The other end of an HTTP/2 connection gives up after 100 empty frames, so none is passed on.
        while !this.inner.is_end_stream() && is_empty(frame.as_ref()) {
            frame = ready!(this.inner.poll_frame(cx));
        }
        if let Some(Ok(passing)) = &mut frame
            && let Some(trailers) = passing.trailers_mut()
        {
            strip_trailers(trailers);
            if trailers.is_empty() {
                frame = None;
            }
        }
        if let Some(Ok(piece)) = frame.as_ref().map(|frame| frame.as_ref().map(Frame::data_ref)) {
            this.record(piece.map(|piece| &piece[..]).unwrap_or_default());
        }
        match &frame {
            None => this.complete(None),
            Some(Ok(frame)) if frame.is_trailers() => this.complete(frame.trailers_ref()),
            Some(Ok(_)) if this.inner.is_end_stream() => this.complete(None),
            Some(_) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Empty => SizeHint::with_exact(0),
            Inner::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Received(body) => body.size_hint(),
            Inner::Replay(replay) => replay.size_hint(),
        }
    }
}

fn is_empty(frame: Option<&Result<Frame<Bytes>, BodyError>>) -> bool {
    frame.and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref).is_some_and(Bytes::is_empty)
}

impl Inner {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Received(body) => Pin::new(body).poll_frame(cx),
            Self::Replay(replay) => Pin::new(replay).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(_) => false,
            Self::Received(body) => body.is_end_stream(),
            Self::Replay(replay) => replay.is_end_stream(),
        }
    }
}

impl Drop for Body {
    /// hyper does not poll a body it knows to be at its end.
    fn drop(&mut self) {
        if (self.ended.is_some() || self.recording.is_some()) && self.inner.is_end_stream() {
            self.complete(None);
        }
    }
}
