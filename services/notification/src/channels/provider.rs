//! Text and push messages through a provider that takes JSON over HTTP: `{to, title, text}`.
//!
//! The idempotency key is the id of the message, by which a provider knows a message that comes twice.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use http::{Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::json;
use shop_kit::errors::chain;
use tokio::time::timeout;

use super::{Channel, SendError};
use crate::domain::message::Message;

/// A provider at a URL.
pub struct Provider {
    client: Client<HttpConnector, Full<Bytes>>,
    url: Uri,
    patience: Duration,
}

impl Provider {
    /// The provider at that URL.
    pub fn new(url: Uri, patience: Duration) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http(), url, patience }
    }

    async fn post(&self, message: &Message) -> Result<(), SendError> {
        let body = json!({"to": message.recipient, "title": message.subject, "text": message.text});
        let request = Request::post(&self.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", message.id())
            .body(Full::from(body.to_string()))
            .map_err(|error| SendError::Permanent(chain(&error)))?;
        match timeout(self.patience, self.client.request(request)).await {
            Ok(Ok(response)) => judge(response.status()),
            Ok(Err(error)) => Err(SendError::Temporary(chain(&error))),
            Err(_) => Err(SendError::Temporary(format!("no answer within {:?}", self.patience))),
        }
    }
}

impl Channel for Provider {
    fn send<'a>(&'a self, message: &'a Message) -> BoxFuture<'a, Result<(), SendError>> {
        self.post(message).boxed()
    }
}

/// A refusal is permanent, unless it is about the moment (408, 429) or about us (401, 403, 404: an operator mends it).
fn judge(status: StatusCode) -> Result<(), SendError> {
    let text = || format!("the provider answered {status}");
    match status.as_u16() {
        200..300 => Ok(()),
        401 | 403 | 404 | 408 | 429 => Err(SendError::Temporary(text())),
        400..500 => Err(SendError::Permanent(text())),
        _ => Err(SendError::Temporary(text())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_of_the_message_itself_is_permanent() {
        for (status, expect) in
            [(200, "sent"), (202, "sent"), (422, "permanent"), (400, "permanent"), (413, "permanent")]
                .into_iter()
                .chain([302, 401, 403, 404, 408, 429, 500, 503].map(|status| (status, "temporary")))
        {
            let judged = match judge(StatusCode::from_u16(status).unwrap()) {
                Ok(()) => "sent",
                Err(SendError::Permanent(_)) => "permanent",
                Err(SendError::Temporary(_)) => "temporary",
            };
            assert_eq!(judged, expect, "{status}");
        }
    }
}
