//! What passes the node, as a packet capture sees it.

use std::io::Read;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::network::Namespace;

/// `ETH_P_ALL` in network byte order: frames of every protocol.
const EVERY: i32 = 0x0003_u16.to_be() as i32;
/// A record of TLS 1.2 or 1.3 that carries data (RFC 8446, section 5.1).
const TLS_DATA: [u8; 3] = [0x17, 0x03, 0x03];

/// Frames as they pass.
pub(crate) struct Capture {
    frames: Receiver<Vec<u8>>,
}

impl Capture {
    /// Sees everything that passes any interface of this namespace from now on.
    pub(crate) fn begin(namespace: &Namespace) -> Self {
        let socket =
            namespace.within(|| Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(EVERY))).unwrap());
        socket.set_recv_buffer_size(8 << 20).unwrap();
        let (seen, frames) = channel();
        std::thread::spawn(move || {
            let mut frame = vec![0; 1 << 16];
            let mut next = || (&socket).read(&mut frame).map(|count| frame[..count].to_vec());
            while next().is_ok_and(|frame| seen.send(frame).is_ok()) {}
        });
        Self { frames }
    }

    /// Everything seen until it has been quiet for a moment.
    pub(crate) fn take(&self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.frames.recv_timeout(Duration::from_millis(100)).ok()).collect()
    }
}

/// Whether any of the frames holds these bytes.
pub(crate) fn holds(frames: &[Vec<u8>], bytes: &[u8]) -> bool {
    frames.iter().any(|frame| frame.windows(bytes.len()).any(|window| window == bytes))
}

/// Whether any of the frames carries data under TLS.
pub(crate) fn holds_tls(frames: &[Vec<u8>]) -> bool {
    holds(frames, &TLS_DATA)
}
