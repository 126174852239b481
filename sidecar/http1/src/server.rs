//! Serves one connection: heads in, answers out, in order, until either side wants no more. The handler runs in the
//! connection's own task and is dropped when the client goes away.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONNECTION, HeaderMap};
use http::{Method, Request, Response, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::Config;
use crate::body::Body;
use crate::control::{Control, Order, Phase};
use crate::encode::{Encoder, framing_of};
use crate::error::{BoxError, Error, Refusal};
use crate::framing::{Framing, has_body, is_switch};
use crate::head::print::{Answered, is_close, print_answer, print_interim};
use crate::head::{RequestHead, parse_request};
use crate::upgrade::OnUpgrade;
use crate::wire::{Decoder, Received, Shared, Switch, Wire, poll_send};

/// What is read of a closed connection at most.
const MAX_LINGER: usize = 1 << 20;

/// A request that has come in.
#[derive(Debug)]
pub struct Incoming<IO> {
    /// The request.
    pub request: Request<Body<IO>>,
    /// Its connection.
    pub connection: Handle<IO>,
}

/// A request's connection, for what an answer alone cannot say.
#[derive(Debug)]
pub struct Handle<IO> {
    wire: Shared<IO>,
    exchange: u64,
    switches: bool,
    informs: bool,
}

impl<IO> Clone for Handle<IO> {
    fn clone(&self) -> Self {
        Self { wire: Rc::clone(&self.wire), ..*self }
    }
}

impl<IO> Handle<IO> {
    /// The connection after HTTP, where the request asks for an upgrade or a tunnel.
    pub fn on_upgrade(&self) -> Option<OnUpgrade<IO>> {
        self.switches.then(|| OnUpgrade::new(Rc::clone(&self.wire)))
    }

    /// Sends an answer before the final one, 103 for example; nothing where the client does not know these (HTTP/1.0), or
    /// the final answer has begun. It goes out when the connection's task runs next, at the latest with the final answer.
    pub fn inform(&self, status: StatusCode, headers: &HeaderMap) {
        let mut wire = self.wire.borrow_mut();
        let open = wire.exchange == self.exchange && !wire.answering;
        if self.informs && open && status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            wire.output.print(|text| print_interim(text, status, headers));
        }
    }
}

/// What an answer must know of its request.
struct Asked {
    method: Method,
    version: Version,
    persists: bool,
}

type Head = Result<RequestHead, Refusal>;

/// What follows an answer.
enum After {
    Next,
    Switched,
    Close,
    /// The client may still be sending.
    Linger,
}

struct Connection<'a, IO> {
    wire: Shared<IO>,
    config: &'a Config,
    control: &'a Rc<Control>,
}

/// Serves a connection until it ends. What is refused before it is a request goes to the handler too, for an answer.
pub async fn serve<IO, H, F, B>(
    io: IO,
    config: &Config,
    control: &Rc<Control>,
    handler: H,
) -> Result<(), Error>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    H: Fn(Result<Incoming<IO>, Refusal>) -> F,
    F: Future<Output = Response<B>>,
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let wire = Wire::shared(io, Some(Rc::clone(control)));
    let connection = Connection { wire, config, control };
    loop {
        let Some(head) = poll_fn(|cx| connection.poll_head(cx)).await? else {
            return connection.close().await;
        };
        let (asked, incoming) = match head {
            Ok(head) => connection.begin(head),
            Err(refusal) => (connection.refuse(), Err(refusal)),
        };
        let Some(answer) = connection.answer(pin!(handler(incoming))).await? else { return Ok(()) };
        match connection.send(answer, &asked).await? {
            After::Next => {}
            After::Switched => return Ok(()),
            After::Close => return connection.close().await,
            After::Linger => return connection.linger().await,
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Connection<'_, IO> {
    /// The next request's head, or why it is refused; none where none is to come.
    fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Head>, Error>> {
        let wire = &mut *self.wire.borrow_mut();
        loop {
            let found = wire.input.head(self.config);
            let head = found.and_then(|head| head.map(|head| parse_request(&head, self.config)).transpose());
            if let Some(head) = head.transpose() {
                return Poll::Ready(Ok(Some(head)));
            }
            let inside = wire.input.is_inside();
            wire.enter(if inside { Phase::Head } else { Phase::Idle });
            match wire.poll_fill(cx)? {
                Poll::Ready(1..) => {}
                Poll::Ready(0) if inside => return Poll::Ready(Err(Error::Closed)),
                Poll::Ready(0) => return Poll::Ready(Ok(None)),
                Poll::Pending => return self.poll_told(inside, cx).map(Ok),
            }
        }
    }

    /// Ready where no head is to be waited for any more.
    fn poll_told(&self, inside: bool, cx: &Context<'_>) -> Poll<Option<Head>> {
        match (self.control.poll_order(cx.waker()), inside) {
            (Order::TimeOut, true) => Poll::Ready(Some(Err(Refusal::TimedOut))),
            (Order::Close, true) | (Order::Close | Order::TimeOut | Order::Finish, false) => {
                Poll::Ready(None)
            }
            _ => Poll::Pending,
        }
    }

    fn begin(&self, head: RequestHead) -> (Asked, Result<Incoming<IO>, Refusal>) {
        let RequestHead { method, uri, version, headers, framing, persists, expects, switches } = head;
        self.control.begin();
        let mut wire = self.wire.borrow_mut();
        let whole = wire.receive(framing);
        wire.answering = false;
        wire.owes_continue = expects && whole.is_none();
        wire.switch = if switches { Switch::Open(None) } else { Switch::Never };
        let exchange = wire.exchange;
        drop(wire);
        let asked = Asked { method: method.clone(), version, persists };
        let mut request = Request::new(Body::new(&self.wire, whole));
        *request.method_mut() = method;
        *request.uri_mut() = uri;
        *request.version_mut() = version;
        *request.headers_mut() = headers;
        let informs = version == Version::HTTP_11;
        let connection = Handle { wire: Rc::clone(&self.wire), exchange, switches, informs };
        (asked, Ok(Incoming { request, connection }))
    }

    /// Whatever follows a head that is refused, nothing of it is read as a request.
    fn refuse(&self) -> Asked {
        let mut wire = self.wire.borrow_mut();
        wire.enter(Phase::Handler);
        wire.decoder = Decoder::UntilClose;
        wire.answering = false;
        Asked { method: Method::GET, version: Version::HTTP_11, persists: false }
    }

    /// Runs the handler; none where the client has gone.
    async fn answer<F, B>(&self, mut handler: Pin<&mut F>) -> Result<Option<Response<B>>, Error>
    where
        F: Future<Output = Response<B>>,
    {
        poll_fn(|cx| {
            if let Poll::Ready(answer) = handler.as_mut().poll(cx) {
                return Poll::Ready(Ok(Some(answer)));
            }
            // Answers before the final one, and whatever a body could not write.
            let written = self.wire.borrow_mut().poll_write(cx);
            if let Poll::Ready(Err(error)) = written {
                return Poll::Ready(Err(error));
            }
            let gone = ready!(self.poll_over(cx));
            Poll::Ready(gone.map_or(Ok(None), Err))
        })
        .await
    }

    /// Ready once nobody waits for an answer any more: the client has gone, or the connection is to be closed.
    fn poll_over(&self, cx: &mut Context<'_>) -> Poll<Option<Error>> {
        let mut wire = self.wire.borrow_mut();
        let order = self.control.poll_order(cx.waker());
        // The client may have gone on just when it was given up.
        let late = order == Order::TimeOut && self.control.phase() == Phase::Client;
        match (order, late) {
            (Order::Close, _) => return Poll::Ready(None),
            (_, true) if !wire.lent || wire.answering => return Poll::Ready(None),
            (_, true) if !wire.is_broken() => wire.break_body(Refusal::TimedOut),
            _ => {}
        }
        wire.poll_gone(cx).map(Some)
    }

    /// Sends an answer and finds out what follows it.
    async fn send<B>(&self, answer: Response<B>, asked: &Asked) -> Result<After, Error>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = answer.into_parts();
        let switches = is_switch(&asked.method, parts.status);
        let framing = match framing_of(&body, &parts.headers) {
            Framing::Chunked if asked.version == Version::HTTP_10 => Framing::UntilClose,
            framing => framing,
        };
        let has_body = has_body(&asked.method, parts.status);
        let persists = switches
            || (asked.persists
                && self.control.order() == Order::Continue
                && !(has_body && framing == Framing::UntilClose)
                && self.may_go_on()
                && !parts.headers.get_all(CONNECTION).iter().any(is_close));
        let head = Answered {
            status: parts.status,
            headers: &parts.headers,
            method: &asked.method,
            version: asked.version,
            persists,
        };
        {
            let mut wire = self.wire.borrow_mut();
            wire.answering = true;
            wire.output.print(|text| print_answer(text, head, framing));
        }
        drop(parts);
        let mut encoder = Encoder::new(if has_body { framing } else { Framing::Length(0) });
        let mut body = pin!(body);
        poll_fn(|cx| {
            if let Poll::Ready(sent) = poll_send(&self.wire, &mut encoder, body.as_mut(), cx) {
                return Poll::Ready(sent);
            }
            let over = ready!(self.poll_over(cx));
            Poll::Ready(Err(over.unwrap_or(Error::Over)))
        })
        .await?;
        if switches {
            return Ok(self.switch());
        }
        Ok(self.after(persists).await)
    }

    /// Whether another request can follow: not where it is unknown if the client sends the body of this one, since it was
    /// not told to (RFC 9110, section 10.1.1), nor after a body that broke the protocol.
    fn may_go_on(&self) -> bool {
        let wire = self.wire.borrow();
        let too_long = !wire.lent && wire.decoder.is_longer_than(self.config.max_unread);
        !wire.owes_continue && !wire.is_broken() && !too_long
    }

    fn switch(&self) -> After {
        let before = std::mem::replace(&mut self.wire.borrow_mut().switch, Switch::Done);
        if let Switch::Open(Some(waker)) = before {
            waker.wake();
        }
        After::Switched
    }

    async fn after(&self, persists: bool) -> After {
        let done = {
            let mut wire = self.wire.borrow_mut();
            wire.lent = false;
            wire.decoder.is_done()
        };
        match (persists, done) {
            (true, true) => After::Next,
            (true, false) if self.drain().await => After::Next,
            (false, true) if self.wire.borrow().input.is_empty() => After::Close,
            _ => After::Linger,
        }
    }

    /// Reads what is left of the body and drops it; whether its end came within bounds.
    async fn drain(&self) -> bool {
        let mut left = self.config.max_unread;
        poll_fn(|cx| self.poll_drain(&mut left, cx)).await
    }

    fn poll_drain(&self, left: &mut u64, cx: &mut Context<'_>) -> Poll<bool> {
        let mut wire = self.wire.borrow_mut();
        loop {
            let received = match wire.poll_body(cx) {
                Poll::Ready(received) => received,
                Poll::Pending if self.control.poll_order(cx.waker()) < Order::TimeOut => {
                    return Poll::Pending;
                }
                Poll::Pending => return Poll::Ready(false),
            };
            match received {
                Ok(Received::End(_)) => return Poll::Ready(true),
                Ok(Received::Data(data)) if data.len() as u64 <= *left => *left -= data.len() as u64,
                Ok(Received::Data(_)) | Err(_) => return Poll::Ready(false),
            }
        }
    }

    /// Says goodbye.
    async fn close(&self) -> Result<(), Error> {
        poll_fn(|cx| Pin::new(&mut self.wire.borrow_mut().io).poll_shutdown(cx)).await.map_err(Error::Io)
    }

    /// Closes so that the client sees the answer and not a reset: what it has sent must have been read (RFC 9112,
    /// section 9.6).
    async fn linger(&self) -> Result<(), Error> {
        let read_out = async {
            self.close().await?;
            let mut left = MAX_LINGER;
            poll_fn(|cx| self.poll_read_out(&mut left, cx)).await
        };
        timeout(self.config.linger, read_out).await.unwrap_or(Ok(()))
    }

    fn poll_read_out(&self, left: &mut usize, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut wire = self.wire.borrow_mut();
        loop {
            wire.input.unread.clear();
            let count = ready!(wire.poll_fill(cx))?;
            if count == 0 || count > *left {
                return Poll::Ready(Ok(()));
            }
            *left -= count;
        }
    }
}

impl<IO> Drop for Connection<'_, IO> {
    /// Whoever waits for an upgrade learns that there is none, and a body still held somewhere ends.
    fn drop(&mut self) {
        let mut wire = self.wire.borrow_mut();
        if !matches!(wire.switch, Switch::Done)
            && let Switch::Open(Some(waker)) = std::mem::take(&mut wire.switch)
        {
            waker.wake();
        }
        wire.exchange += 1;
    }
}
