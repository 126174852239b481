//! Where a redirected connection was going before the kernel handed it to us (`SO_ORIGINAL_DST` of REDIRECT rules).

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::SockRef;
use tokio::net::TcpStream;

/// The address the client connected to. An error where the connection was not redirected: then it is for this very
/// listener, and passing it on to where it was going would bring it back here for ever.
pub fn original_destination(stream: &TcpStream) -> io::Result<SocketAddr> {
    let socket = SockRef::from(stream);
    let local = stream.local_addr()?;
    // A socket for both families shows IPv4 addresses as mapped ones; the kernel knows them as what they are.
    let found = match local.ip().to_canonical() {
        IpAddr::V4(_) => socket.original_dst_v4()?,
        IpAddr::V6(_) => socket.original_dst_v6()?,
    };
    let found =
        found.as_socket().ok_or_else(|| io::Error::other("the original destination is no IP address"))?;
    let (found, local) = (canonical(found), canonical(local));
    if found == local {
        return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, "the connection was not redirected"));
    }
    Ok(found)
}

/// The address, without an IPv4 address in the guise of an IPv6 one.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
