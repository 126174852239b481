//! One request over a connection of its own, for what is asked here now and then.

use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// The status that a GET is answered with.
pub(crate) async fn ask(address: SocketAddr, host: &str, path: &str) -> Result<StatusCode> {
    let tcp = TcpStream::connect(address).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await?;
    let request = Request::get(path).header("host", host).body(Empty::<Bytes>::new())?;
    tokio::select! {
        answer = sender.send_request(request) => Ok(answer?.status()),
        ended = connection => anyhow::bail!("the connection ended: {ended:?}"),
    }
}
