//! Serves one accepted connection of another proxy by `weft/1` (`transport/README.md`): many requests and raw connections
//! at once, each a task of its own that ends when the peer gives it up. Leaves out what happens to them.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;

use http::{Request, Response};
use tracing::debug;
use weft_http1::Order;
use weft_transport::Tunnel;

use super::body::Body;
use super::early::Early;
use super::exec::LocalExec;
use super::received::{OnSwitch, Received};
use super::upgrade::Inward;
use crate::net::stream::Stream;
use crate::net::worker::Worker;

/// Serves requests and raw connections with these.
struct Handler<H, T> {
    request: H,
    tcp: T,
}

/// Serves a connection with these handlers until it ends, or shutdown lets it end.
pub async fn serve<H, F, T, G>(worker: &Rc<Worker>, stream: Stream, (request, tcp): (H, T))
where
    H: Fn((Inward, Received)) -> F + Unpin,
    F: Future<Output = Response<Body>> + 'static,
    T: Fn(Tunnel) -> G + Unpin,
    G: Future<Output = ()> + 'static,
{
    let registered = worker.connections.register(false);
    let spawn = LocalExec(worker.tasks.clone());
    let limits = worker.shared.settings.peer_limits();
    let connection = weft_transport::serve(stream, limits, Handler { request, tcp }, spawn);
    let mut connection = pin!(connection);
    let ended = poll_fn(|cx| {
        if registered.control().poll_order(cx.waker()) != Order::Continue {
            connection.drain();
        }
        connection.as_mut().poll(cx)
    });
    if let Err(error) = ended.await {
        debug!(%error, "connection of a peer ended");
    }
}

impl<H, F, T, G> weft_transport::Handler for Handler<H, T>
where
    H: Fn((Inward, Received)) -> F,
    F: Future<Output = Response<Body>> + 'static,
    T: Fn(Tunnel) -> G,
    G: Future<Output = ()> + 'static,
{
    type Body = Body;

    fn request(
        &self,
        request: Request<weft_transport::Body>,
    ) -> impl Future<Output = Response<Body>> + 'static {
        let (parts, mut body) = request.into_parts();
        let early = body.informer().map(Early::Weft);
        let client = body.take_upgrade().map(OnSwitch::Weft);
        // On the heap: what the transport and the runtime put around it would move all of it, several times.
        Box::pin((self.request)((Inward::new(parts, client, early), Received::Weft(body))))
    }

    fn tcp(&self, stream: Tunnel) -> impl Future<Output = ()> + 'static {
        (self.tcp)(stream)
    }
}
