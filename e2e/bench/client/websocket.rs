//! Upgraded connections that are opened, tried once and then left alone.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::{Caller, HOST};

/// How many are opened at a time.
const AT_ONCE: usize = 32;

/// Opens so many, each answered once by the origin.
pub(crate) async fn open(
    caller: &Caller,
    address: SocketAddr,
    count: usize,
) -> Result<Vec<WebSocketStream<TcpStream>>> {
    let mut sockets = Vec::with_capacity(count);
    let mut opening = JoinSet::new();
    for _ in 0..count {
        if opening.len() == AT_ONCE {
            sockets.push(opening.join_next().await.context("none is opening")???);
        }
        opening.spawn(one(caller.token.clone(), address));
    }
    while let Some(opened) = opening.join_next().await {
        sockets.push(opened??);
    }
    Ok(sockets)
}

async fn one(token: String, address: SocketAddr) -> Result<WebSocketStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let mut request = format!("ws://{HOST}/").into_client_request()?;
    request.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await?;
    socket.send(Message::text("hello")).await?;
    let answer = socket.next().await.context("closed instead of answered")??;
    ensure!(answer == Message::text("hello"), "the origin did not echo");
    Ok(socket)
}
