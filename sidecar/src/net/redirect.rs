//! Where a redirected connection was going before the kernel handed it to us (`SO_ORIGINAL_DST` of REDIRECT rules).

use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

/// The address the client connected to.
pub fn original_destination(stream: &TcpStream) -> std::io::Result<SocketAddr> {
    let socket = SockRef::from(stream);
    let found = match stream.local_addr()? {
        SocketAddr::V4(_) => socket.original_dst_v4()?,
        SocketAddr::V6(_) => socket.original_dst_v6().or_else(|_| socket.original_dst_v4())?,
    };
    found.as_socket().ok_or_else(|| std::io::Error::other("the original destination is no IP address"))
}
