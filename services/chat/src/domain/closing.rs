//! Why the service ends a connection: the close code and the reason that the client is told.
//! `services/chat/README.md` and `openapi.yaml` show the same table; a test compares them.

/// Why a connection is ended by the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The bytes are no WebSocket frames.
    Protocol,
    /// A binary frame.
    Binary,
    /// A text frame that is not UTF-8.
    NotUtf8,
    /// So many frames, or so many refused ones, that nobody types them.
    TooManyFrames,
    /// A frame larger than any valid one.
    TooLarge,
    /// The instance stops; another one goes on.
    Restart,
    /// The client takes messages more slowly than they come.
    TooSlow,
    /// What was missed cannot be read now.
    Unavailable,
    /// The token that the connection was opened with has expired.
    Expired,
    /// Nothing was heard of the client for too long.
    Idle,
    /// The user has as many connections as one may have.
    TooManyConnections,
}

impl Closing {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Protocol,
        Self::Binary,
        Self::NotUtf8,
        Self::TooManyFrames,
        Self::TooLarge,
        Self::Restart,
        Self::TooSlow,
        Self::Unavailable,
        Self::Expired,
        Self::Idle,
        Self::TooManyConnections,
    ];

    /// The close code: RFC 6455, section 7.4, and its registry; from 4000 on our own, after the HTTP status that says
    /// the same.
    pub const fn code(self) -> u16 {
        match self {
            Self::Protocol => 1002,
            Self::Binary => 1003,
            Self::NotUtf8 => 1007,
            Self::TooManyFrames => 1008,
            Self::TooLarge => 1009,
            Self::Restart => 1012,
            Self::TooSlow | Self::Unavailable => 1013,
            Self::Expired => 4401,
            Self::Idle => 4408,
            Self::TooManyConnections => 4429,
        }
    }

    /// The reason as a label of a metric.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Protocol => "protocol",
            Self::Binary => "binary",
            Self::NotUtf8 => "not-utf8",
            Self::TooManyFrames => "too-many-frames",
            Self::TooLarge => "too-large",
            Self::Restart => "restart",
            Self::TooSlow => "too-slow",
            Self::Unavailable => "unavailable",
            Self::Expired => "expired",
            Self::Idle => "idle",
            Self::TooManyConnections => "too-many-connections",
        }
    }

    /// The reason, as the client gets it.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Protocol => "not a WebSocket frame",
            Self::Binary => "only text frames are understood",
            Self::NotUtf8 => "a text frame is not UTF-8",
            Self::TooManyFrames => "too many frames",
            Self::TooLarge => "a frame is larger than 100 KiB",
            Self::Restart => "this instance stops: connect again",
            Self::TooSlow => "too slow: connect again with the last id you have",
            Self::Unavailable => "messages cannot be read now: connect again later",
            Self::Expired => "the token has expired",
            Self::Idle => "nothing was heard for too long",
            Self::TooManyConnections => "too many connections of this user",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readme_and_openapi_document_show_the_same_table() {
        let (readme, openapi) = (include_str!("../../README.md"), include_str!("../../openapi.yaml"));
        for closing in Closing::ALL {
            let row = format!("| {} | {} |", closing.code(), closing.reason());
            assert!(readme.contains(&row), "services/chat/README.md lacks the row\n{row}");
            assert!(openapi.contains(&row), "services/chat/openapi.yaml lacks the row\n{row}");
            assert!(closing.reason().len() <= 123, "a close frame has no room for it");
        }
    }
}
