//! Raw connections through two proxies.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use weft_api::v1;

use crate::support::{PATIENCE, pair_with};

fn tcp(inbound: &mut v1::Inbound, destination: &mut v1::Destination) {
    inbound.ports[0].protocol = v1::Protocol::Tcp.into();
    destination.protocol = v1::Protocol::Tcp.into();
}

/// Greets first, then says back what it was sent once the other side has finished sending.
async fn greeter() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    TaskTracker::new().spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"hello\n").await.unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            stream.write_all(&all).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_and_a_half_close_is_passed_on() {
    let pair = pair_with(greeter().await, tcp);
    let mut stream = TcpStream::connect(pair.to).await.unwrap();
    let mut greeting = [0; 6];
    timeout(PATIENCE, stream.read_exact(&mut greeting)).await.unwrap().unwrap();
    assert_eq!(&greeting, b"hello\n");
    stream.write_all(b"abc").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, b"abc");
}

#[tokio::test]
async fn a_raw_connection_no_rule_allows_is_closed() {
    let pair = pair_with(greeter().await, |inbound, destination| {
        tcp(inbound, destination);
        inbound.authorization = Some(v1::Authorization::default());
    });
    let mut stream = TcpStream::connect(pair.to).await.unwrap();
    let mut all = Vec::new();
    drop(timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("closed in time"));
    assert!(all.is_empty());
}

#[tokio::test]
async fn a_raw_connection_that_stays_silent_is_closed() {
    let pair = pair_with(greeter().await, |inbound, destination| {
        tcp(inbound, destination);
        destination.idle_timeout_ms = 1;
    });
    let mut stream = TcpStream::connect(pair.to).await.unwrap();
    let mut all = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("closed in time").unwrap();
}
