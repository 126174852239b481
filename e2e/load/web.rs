//! Requests to the shop, and what an answer that is none says: the problem's name, or the proxy's reason.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::record::Outcome;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Connections to the shop, kept and used again.
#[derive(Clone)]
pub(crate) struct Web {
    client: Client<HttpConnector, Full<Bytes>>,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Web {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self { client: Client::builder(TokioExecutor::new()).build(connector) }
    }

    /// Sends a request; the error is its reason, in a few words.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &HeaderMap,
        body: Option<&Value>,
    ) -> Result<Answer, String> {
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let mut request = Request::new(Full::new(bytes));
        *request.method_mut() = method;
        *request.uri_mut() = url.parse().map_err(|_| "not a URL".to_owned())?;
        request.headers_mut().clone_from(headers);
        if body.is_some() {
            request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let response = self.client.request(request).await.map_err(|error| {
            if error.is_connect() { "not connected".to_owned() } else { "connection lost".to_owned() }
        })?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|_| "answer cut off".to_owned())?.to_bytes();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    /// Posts something that has its effect once, however often it arrives under this key.
    pub(crate) async fn post_once(
        &self,
        url: &str,
        headers: &HeaderMap,
        key: &str,
        body: &Value,
    ) -> Result<Answer, String> {
        let mut headers = headers.clone();
        let key = HeaderValue::from_str(key).map_err(|_| "not a key".to_owned())?;
        headers.insert(KEY, key);
        self.send(Method::POST, url, &headers, Some(body)).await
    }

    /// Asks for something that must be there.
    pub(crate) async fn ask(
        &self,
        method: Method,
        url: &str,
        headers: &HeaderMap,
        body: Option<&Value>,
    ) -> Result<Value> {
        let what = format!("{method} {url}");
        let answer =
            self.send(method, url, headers, body).await.map_err(anyhow::Error::msg).context(what.clone())?;
        ensure!(
            answer.status.is_success(),
            "{what}: {} {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        answer.json().with_context(|| format!("{what}: the answer is not JSON"))
    }
}

impl Answer {
    /// Its body.
    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// What came of a request that did not get what it asked for; these reasons are right.
    pub(crate) fn refusal(&self, right: &[&str]) -> Outcome {
        let reason = self.reason();
        if right.contains(&reason.as_str()) { Outcome::Refused(reason) } else { Outcome::Failed(reason) }
    }

    /// Why it is not what was asked for: `sold-out`, `rate-limited`, or `status 502`.
    pub(crate) fn reason(&self) -> String {
        if let Some(reason) = self.headers.get("x-weft-reason").and_then(|value| value.to_str().ok()) {
            return format!("proxy: {reason}");
        }
        let problem = self.json().and_then(|body| body["type"].as_str().map(str::to_owned));
        let slug = problem.as_deref().and_then(|name| name.rsplit(':').next()).map(str::to_owned);
        slug.unwrap_or_else(|| format!("status {}", self.status.as_u16()))
    }
}
