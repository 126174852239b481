//! At the edge: listeners of a Gateway, plain or TLS, whose requests come from outside the mesh.

use std::net::SocketAddr;
use std::rc::Rc;

use tokio::net::TcpStream;

use crate::net::worker::Worker;

/// Serves a connection accepted on a listener of the gateway.
pub async fn serve(_worker: &Rc<Worker>, _stream: TcpStream, _peer: SocketAddr, _listener: &str) {}
