//! Random operations of many streams at once, over pipes of any size and with any delays, against an oracle: each stream
//! delivers exactly what was sent on it, or breaks off, and the connection is empty in the end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt;
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, duplex};
use tokio::task::spawn_local;
use tokio::time::{Instant, Sleep, sleep};
use weft_transport::{Body, Limits, StreamError};

use crate::support::{Answer, Ask, Boxed, Here, Server, channel, empty, get, post, run};

/// What one stream does.
#[derive(Clone, Debug)]
enum Act {
    /// Pieces that come back, with trailers or not, each sent and read after so many milliseconds.
    Echo { pieces: Vec<usize>, trailers: bool, pause: u64, read_pause: u64 },
    /// Raw bytes that come back.
    Tcp { pieces: Vec<usize>, pause: u64 },
    /// An answer of this size given up after so many bytes.
    GiveUp { size: usize, after: usize },
    /// A request whose body breaks off after these pieces.
    BreakOff { pieces: Vec<usize> },
}

fn act() -> impl Strategy<Value = Act> {
    let pieces = || {
        proptest::collection::vec(prop_oneof![1..200_usize, 4000..4200_usize, 16_000..40_000_usize], 0..12)
    };
    prop_oneof![
        4 => (pieces(), any::<bool>(), 0..20_u64, 0..20_u64)
            .prop_map(|(pieces, trailers, pause, read_pause)| Act::Echo { pieces, trailers, pause, read_pause }),
        2 => (pieces(), 0..20_u64).prop_map(|(pieces, pause)| Act::Tcp { pieces, pause }),
        1 => (0..200_000_usize, 0..100_000_usize).prop_map(|(size, after)| Act::GiveUp { size, after }),
        1 => pieces().prop_map(|pieces| Act::BreakOff { pieces }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_stream_delivers_what_was_sent_on_it(
        acts in proptest::collection::vec(act(), 1..24),
        pipe in prop_oneof![Just(1 << 20), Just(16_384), Just(1000)],
        latency in 0..80_u64,
        drain_after in proptest::option::of(0..200_u64),
    ) {
        run(play(acts, pipe, latency, drain_after));
    }
}

async fn play(acts: Vec<Act>, pipe: usize, latency: u64, drain_after: Option<u64>) {
    let (near, far) = duplex(pipe);
    let server = Server::start(far, &Limits::default(), answer);
    let near = Delayed { io: near, latency: Duration::from_millis(latency), until: None };
    let (client, connection) = weft_transport::connect(near, Limits::default(), Here);
    let ended = spawn_local(connection);
    let mut playing = Vec::new();
    for (number, act) in acts.into_iter().enumerate() {
        let client = client.clone();
        playing.push(spawn_local(async move { perform(client, number, act).await }));
    }
    if let Some(after) = drain_after {
        sleep(Duration::from_millis(after)).await;
        server.drain();
    }
    for played in playing {
        played.await.unwrap();
    }
    drop(client);
    ended.await.unwrap().unwrap();
    server.end().await.unwrap();
}

type Client = weft_transport::Client<Here>;

async fn perform(client: Client, number: usize, act: Act) {
    match act {
        Act::Echo { pieces, trailers, pause, read_pause } => {
            let (body, sent) = body(number, pieces, trailers.then(fields), (pause, false));
            let Ok(answer) = client.ask(post("/echo", body)).await else {
                return assert!(!client.is_usable(), "only a drain refuses");
            };
            let (got, got_trailers) =
                read(answer.into_body(), read_pause).await.expect("an echo comes whole");
            assert!(got == sent, "stream {number}: {} of {} bytes", got.len(), sent.len());
            assert_eq!(got_trailers, trailers.then(fields));
        }
        Act::Tcp { pieces, pause } => {
            let Ok(tunnel) = client.open_tcp() else { return };
            let (mut from, mut to) = tokio::io::split(tunnel);
            let sent: Vec<u8> = pieces.iter().flat_map(|&size| piece(number, size)).collect();
            let writing = async {
                for size in pieces {
                    to.write_all(&piece(number, size)).await.unwrap();
                    sleep(Duration::from_millis(pause)).await;
                }
                to.shutdown().await.unwrap();
            };
            let mut got = Vec::new();
            let ((), read) = tokio::join!(writing, from.read_to_end(&mut got));
            read.unwrap();
            assert!(got == sent, "raw stream {number}");
        }
        Act::GiveUp { size, after } => {
            let Ok(answer) = client.ask(get(&format!("/{size}"))).await else { return };
            let mut body = answer.into_body();
            let mut got = 0;
            while got < after.min(size) {
                let Some(frame) = body.frame().await else { panic!("it ended early") };
                got += frame.unwrap().into_data().map_or(0, |data| data.len());
            }
        }
        Act::BreakOff { pieces } => {
            let (body, _) = body(number, pieces, None, (1, true));
            if let Ok(answer) = client.ask(post("/echo", body)).await {
                assert!(read(answer.into_body(), 0).await.is_err(), "a body that breaks off does not end");
            }
        }
    }
}

fn answer(request: Request<Body>) -> Answer {
    if request.uri().path() == "/echo" {
        return crate::support::echo(request);
    }
    crate::support::sized(request)
}

fn fields() -> HeaderMap {
    let mut fields = HeaderMap::new();
    fields.insert("grpc-status", HeaderValue::from_static("0"));
    fields.insert("x-other", HeaderValue::from_static("trailer"));
    fields
}

fn piece(number: usize, size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from((at * 7 + number * 31) % 256).unwrap()).collect()
}

/// A body of these pieces and all of its bytes.
fn body(
    number: usize,
    pieces: Vec<usize>,
    trailers: Option<HeaderMap>,
    (pause, breaks): (u64, bool),
) -> (Boxed, Vec<u8>) {
    let sent = pieces.iter().flat_map(|&size| piece(number, size)).collect();
    if pieces.is_empty() && trailers.is_none() && !breaks {
        return (empty(), sent);
    }
    let (frames, body) = channel();
    spawn_local(async move {
        for size in pieces {
            // The stream may have been given up.
            frames.send(Ok(Frame::data(Bytes::from(piece(number, size))))).ok();
            sleep(Duration::from_millis(pause)).await;
        }
        if let Some(trailers) = trailers {
            frames.send(Ok(Frame::trailers(trailers))).ok();
        } else if breaks {
            frames.send(Err(StreamError::Failed(weft_transport::Code::Internal))).ok();
        }
    });
    (body, sent)
}

async fn read(mut body: Body, pause: u64) -> Result<(Vec<u8>, Option<HeaderMap>), StreamError> {
    let (mut got, mut trailers) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) => got.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
        sleep(Duration::from_millis(pause)).await;
    }
    Ok((got, trailers))
}

/// A pipe whose bytes take a while.
struct Delayed<IO> {
    io: IO,
    latency: Duration,
    until: Option<Pin<Box<Sleep>>>,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Delayed<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let latency = self.latency;
        let until = self.until.get_or_insert_with(|| Box::pin(sleep(latency)));
        ready!(until.as_mut().poll(cx));
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if polled.is_ready() {
            let next = Instant::now() + latency;
            self.until = Some(Box::pin(tokio::time::sleep_until(next)));
        }
        polled
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Delayed<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_end_either_side_in_good_order(bytes in proptest::collection::vec(any::<u8>(), 0..400), greet in any::<bool>()) {
        run(async move {
            for as_server in [true, false] {
                let (mut near, far) = duplex(1 << 16);
                let mut out = bytes::BytesMut::new();
                if greet {
                    weft_transport::frame::Hello::LEAST.encode(&mut out);
                }
                out.extend_from_slice(&bytes);
                near.write_all(&out).await.unwrap();
                let ended = if as_server {
                    Server::start(far, &Limits::default(), |_| Box::pin(async { Response::new(empty()) }) as Answer).ended
                } else {
                    let (client, ended) = crate::support::client(far, &Limits::default());
                    spawn_local(async move { client.ask(get("/")).await.map(drop) });
                    ended
                };
                drop(near);
                ended.await.unwrap().ok();
            }
        });
    }
}
