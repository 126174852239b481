//! Applications behind the sidecars: real servers on loopback that say what reached them and fail when told to.

pub mod grpc;
pub mod http;
pub mod raw;
pub mod tcp;
pub mod tls;
pub mod websocket;

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Listens on a free port of loopback, where `serve` gets every connection; dropped, the tasks close all of it.
pub async fn listen<F>(serve: impl Fn(TcpStream) -> F + Send + 'static) -> (SocketAddr, JoinSet<()>)
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    listen_at((Ipv4Addr::LOCALHOST, 0).into(), serve).await
}

/// As [`listen`], at this address.
async fn listen_at<F>(
    address: SocketAddr,
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> (SocketAddr, JoinSet<()>)
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    connections.spawn(serve(accepted.unwrap().0));
                }
                // How a connection ended is the client's to judge.
                Some(_) = connections.join_next() => {}
            }
        }
    });
    (address, tasks)
}
