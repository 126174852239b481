//! A protocol in which the server speaks first: a greeting, then every byte comes back.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::Server;

pub(super) async fn serve(server: Arc<Server>, mut stream: TcpStream) {
    let echo = async {
        stream.write_all(format!("ready {}\n", server.name).as_bytes()).await?;
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await
    };
    // A peer that goes away ends the connection and nothing else.
    drop(server.stop.run_until_cancelled(echo).await);
}
