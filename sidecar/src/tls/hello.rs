//! The first message of a TLS client, read without answering it: which server name it asks for, and every byte that was
//! read for it, so that the very bytes can go on to whom the name belongs to. rustls reads the message; here are its
//! bounds, and what a client is told whose message is none. No IO here.

use std::fmt;

use bytes::BytesMut;
use rustls::server::{Accepted, Acceptor};

/// Larger than any `ClientHello` there is.
pub const MAX_HELLO: usize = 16 << 10;

/// The beginning of a TLS connection.
#[derive(Default)]
pub struct Hello {
    acceptor: Acceptor,
    /// Of `read`, so many bytes have been looked at.
    looked_at: usize,
    /// Everything that came so far; what comes next is to be appended.
    pub read: BytesMut,
}

/// Why there is no `ClientHello`.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    /// It is not TLS, or breaks it.
    #[error("no ClientHello")]
    Broken {
        /// What rustls says.
        #[source]
        source: rustls::Error,
        /// What the client is told.
        alert: Vec<u8>,
    },
    /// It has not ended after [`MAX_HELLO`] bytes.
    #[error("ClientHello of more than {MAX_HELLO} bytes")]
    TooLarge,
}

impl Hello {
    /// How many bytes may still come.
    pub fn room(&self) -> usize {
        MAX_HELLO.saturating_sub(self.read.len())
    }

    /// Looks at what has come since the last look; none: the message has not ended yet. Not to be called again after an
    /// answer.
    pub fn look(&mut self) -> Result<Option<Accepted>, HelloError> {
        while let Some(mut new) = self.read.get(self.looked_at..).filter(|new| !new.is_empty()) {
            let fed = self.acceptor.read_tls(&mut new).map_err(|_| HelloError::TooLarge)?;
            self.looked_at += fed;
            match self.acceptor.accept() {
                Ok(Some(accepted)) => return Ok(Some(accepted)),
                Ok(None) if fed == 0 => return Err(HelloError::TooLarge),
                Ok(None) => {}
                Err((source, mut alert)) => {
                    let mut told = Vec::new();
                    alert.write_all(&mut told).expect("memory takes every byte");
                    return Err(HelloError::Broken { source, alert: told });
                }
            }
        }
        if self.room() == 0 { Err(HelloError::TooLarge) } else { Ok(None) }
    }

    /// What has been read beyond what rustls was given, for who goes on with the handshake here.
    pub fn rest(mut self) -> BytesMut {
        self.read.split_off(self.looked_at)
    }
}

impl HelloError {
    /// What the client is told before its connection is closed.
    pub fn alert(&self) -> &[u8] {
        match self {
            Self::Broken { alert, .. } => alert,
            Self::TooLarge => &DECODE_ERROR,
        }
    }
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello").field("read", &self.read.len()).finish_non_exhaustive()
    }
}

/// The server name means nobody here (RFC 6066, section 3).
pub const UNRECOGNIZED_NAME: [u8; 7] = fatal(112);
const DECODE_ERROR: [u8; 7] = fatal(50);

/// An alert in a record of its own, before any key is agreed on (RFC 8446, sections 5.1 and 6).
const fn fatal(description: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, description]
}

#[cfg(test)]
mod tests;
