//! What `weft-e2e-app` prints and the tests read: one JSON object per line.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What came of one request (`weft-e2e-app call`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// HTTP status; none where no answer came.
    pub status: Option<u16>,
    /// Headers of the answer, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body as text.
    pub body: String,
    /// Why no answer came.
    pub error: Option<String>,
}

impl Answer {
    /// Value of a header, empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(String::as_str).unwrap_or_default()
    }

    /// Why a proxy refused, empty where none did.
    pub fn reason(&self) -> &str {
        self.header("x-weft-reason")
    }

    /// In one line, for messages.
    pub fn told(&self) -> String {
        let status = self.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
        let error = self.error.as_deref().unwrap_or_default();
        let body: String = self.body.chars().take(200).collect();
        format!("{status} reason={:?} error={error:?} body={body:?}", self.reason())
    }
}

/// A frame that a WebSocket of `weft-e2e-app talk` got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The instance that it is connected to, by `x-served-by`.
    pub by: String,
    /// The text frame.
    pub frame: String,
}

/// What the server of `weft-e2e-app serve` says of itself and of the request that it got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// Name of the pod.
    pub pod: String,
    /// Path of the request.
    pub path: String,
    /// Headers of the request, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Body of the request as text.
    pub body: String,
}

/// A line of `weft-e2e-app load` and `ws`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Line {
    /// How far it is.
    Tick(Tick),
    /// Something went wrong.
    Failure(Failure),
}

/// How far a load is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// Milliseconds since the load began.
    pub at: u64,
    /// Requests answered with 200, or WebSocket messages echoed.
    pub ok: u64,
    /// Everything else, or WebSocket connections lost.
    pub failed: u64,
    /// Longest time that a good answer took since the last tick, in milliseconds.
    pub slowest: u64,
}

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Wall clock, RFC 3339.
    pub when: String,
    /// How long the request had taken, in milliseconds.
    pub took: u64,
    /// What went wrong.
    pub why: String,
}
