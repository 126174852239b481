//! What can go wrong: what the other end sent cannot be accepted, the connection broke, or the body to send broke off.

use std::io;

use http::StatusCode;

/// An error of whoever made a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why what the other end sent is not accepted. Of a request, the answer is [`Refusal::status`] and the connection's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It breaks RFC 9112.
    #[error("malformed message: {0}")]
    Malformed(&'static str),
    /// The request line is too long.
    #[error("the request line is too long")]
    LineTooLong,
    /// The head has too many bytes.
    #[error("the head is too large")]
    HeadTooLarge,
    /// The head has too many lines.
    #[error("the head has too many lines")]
    TooManyHeaders,
    /// A transfer coding other than `chunked` (RFC 9112, section 6.1).
    #[error("unknown transfer coding")]
    UnknownCoding,
    /// It did not come in time.
    #[error("it was not sent in time")]
    TimedOut,
}

impl Refusal {
    /// Status of the answer.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::LineTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge | Self::TooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UnknownCoding => StatusCode::NOT_IMPLEMENTED,
            Self::TimedOut => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

/// Why a connection or a body ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What came is not accepted.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The other end closed in the middle of a message.
    #[error("the connection ended in the middle of a message")]
    Closed,
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[source] io::Error),
    /// The body to be sent broke off.
    #[error("the body to send broke off")]
    Body(#[source] BoxError),
    /// The body to be sent has another length than its head says.
    #[error("the body to send has another length than its head says")]
    Length,
    /// The exchange this body belongs to is over.
    #[error("the exchange is over")]
    Over,
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
