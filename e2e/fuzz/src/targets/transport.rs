//! Feeds bytes to either side of `weft/1`: the answering one serves all it is asked, the asking one has a request, an
//! upgrade and a raw connection under way. Whatever comes, the side ends once the peer has.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use weft_transport::frame::Hello;
use weft_transport::head::Asked;
use weft_transport::{Body, Closed, Handler, Limits, OnUpgrade, Spawn, Tunnel, connect, serve};

type Ended = JoinHandle<Result<(), Closed>>;

/// The target.
pub fn run(data: &[u8]) {
    if let Some((&how, bytes)) = data.split_first() {
        feed(how, bytes);
    }
}

/// Feeds these bytes. `how`: 0x80, after HELLO; 0x40, to the asking side; the rest, in what pieces.
fn feed(how: u8, bytes: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let (mut near, far) = duplex(1 << 20);
        let ended =
            if how & 0x40 == 0 { spawn_local(serve(far, Limits::default(), Echo, Here)) } else { ask(far) };
        let mut all = BytesMut::new();
        if how & 0x80 != 0 {
            Hello::LEAST.encode(&mut all);
        }
        all.extend_from_slice(bytes);
        for piece in all.chunks(usize::from(how & 0x3f) * 16 + 1) {
            // It may have been closed for what came before.
            near.write_all(piece).await.ok();
            tokio::task::yield_now().await;
        }
        near.shutdown().await.ok();
        near.read_to_end(&mut Vec::new()).await.ok();
        ended.await.expect("no panic").ok();
    });
}

fn ask(io: DuplexStream) -> Ended {
    let (client, connection) = connect(io, Limits::default(), Here);
    spawn_local(async move {
        let (uri, upgrade) = (Uri::from_static("/"), HeaderValue::from_static("websocket"));
        let headers = HeaderMap::new();
        let asked = |upgrade| Asked {
            method: &Method::GET,
            uri: &uri,
            version: Version::HTTP_11,
            headers: &headers,
            upgrade,
        };
        let tunnel = client.open_tcp();
        let plain =
            async { taken(client.send(asked(None), Full::new(Bytes::from("body")), told).await.ok()).await };
        let switch = async {
            taken(client.send(asked(Some(&upgrade)), Full::<Bytes>::default(), told).await.ok()).await;
        };
        let raw = async {
            if let Ok(mut tunnel) = tunnel {
                tunnel.read_to_end(&mut Vec::new()).await.ok();
            }
        };
        tokio::join!(plain, switch, raw);
    });
    spawn_local(connection)
}

fn told(status: StatusCode, _: HeaderMap) {
    assert!(status.is_informational());
}

async fn taken(answer: Option<Response<Body>>) {
    if let Some(answer) = answer {
        answer.into_body().collect().await.ok();
    }
}

#[derive(Clone, Copy)]
struct Here;

impl Spawn for Here {
    fn spawn<F: Future<Output = ()> + 'static>(&self, task: F) {
        drop(spawn_local(task));
    }
}

struct Echo;

impl Handler for Echo {
    type Body = Full<Bytes>;

    fn request(&self, request: Request<Body>) -> impl Future<Output = Response<Full<Bytes>>> + 'static {
        let upgrade = request.headers().contains_key("upgrade");
        let mut body = request.into_body();
        if let Some(informer) = body.informer() {
            informer.inform(StatusCode::EARLY_HINTS, &HeaderMap::new());
        }
        let switched = body.take_upgrade().filter(|_| upgrade);
        async move {
            if let Some(switched) = switched {
                drop(spawn_local(switch(switched)));
                return Response::builder()
                    .status(101)
                    .header("upgrade", "x")
                    .body(Full::default())
                    .expect("a head");
            }
            let whole = body.collect().await.map(http_body_util::Collected::to_bytes);
            Response::new(Full::new(whole.unwrap_or_default()))
        }
    }

    fn tcp(&self, stream: Tunnel) -> impl Future<Output = ()> + 'static {
        back(Some(stream))
    }
}

async fn switch(switched: OnUpgrade) {
    back(switched.await.ok()).await;
}

async fn back(stream: Option<Tunnel>) {
    let Some(stream) = stream else { return };
    let (mut from, mut to) = tokio::io::split(stream);
    tokio::io::copy(&mut from, &mut to).await.ok();
    to.shutdown().await.ok();
}
