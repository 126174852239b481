//! A small JSON client: one request, one answer, whatever the status.

use std::sync::Arc;

use ::http::{HeaderMap, Method, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use uuid::Uuid;

use super::contract::Contract;

/// A client of one service, on behalf of somebody or nobody.
#[derive(Clone)]
pub struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
    headers: Vec<(&'static str, String)>,
    contract: Option<Arc<Contract>>,
}

/// Why there is no answer.
type Gone = Box<dyn std::error::Error>;

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; text that is not JSON is a string.
    pub body: Value,
}

impl Http {
    /// A client of the service at `http://host:port`.
    pub fn new(base: String) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            base,
            headers: Vec::new(),
            contract: None,
        }
    }

    /// The same client of a service that is held to its `OpenAPI` document, if it has one.
    pub(super) async fn held_to_its_document(&self) -> Self {
        let reply = self.get("/openapi.json").await;
        let contract = (reply.status == StatusCode::OK).then(|| Arc::new(Contract::new(reply.body)));
        Self { contract, ..self.clone() }
    }

    /// Where the service is: host and port.
    pub fn address(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    /// Panics unless something that came another way, a frame of a WebSocket, is as the document describes what has that
    /// name.
    pub fn documents(&self, name: &str, value: &Value) {
        self.contract.as_ref().expect("the service is described").check_named(name, value);
    }

    /// The same client on behalf of a user.
    #[must_use]
    pub fn user(&self, id: Uuid, role: &str) -> Self {
        self.header("x-user-id", &id.to_string()).header("x-user-role", role)
    }

    /// The same client with one more header.
    #[must_use]
    pub fn header(&self, name: &'static str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.push((name, value.to_owned()));
        client
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, None).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Reply {
        self.send(Method::DELETE, path, None).await
    }

    /// POST.
    pub async fn post(&self, path: &str, body: Value) -> Reply {
        self.send(Method::POST, path, Some(body)).await
    }

    /// POST to a service that may be gone: nothing when it does not answer.
    pub async fn try_post(&self, path: &str, body: Value) -> Option<Reply> {
        self.try_send(Method::POST, path, Some(body)).await.ok()
    }

    /// PUT.
    pub async fn put(&self, path: &str, body: Value) -> Reply {
        self.send(Method::PUT, path, Some(body)).await
    }

    /// PATCH.
    pub async fn patch(&self, path: &str, body: Value) -> Reply {
        self.send(Method::PATCH, path, Some(body)).await
    }

    /// A request without a body.
    pub async fn request(&self, method: Method, path: &str) -> Reply {
        self.send(method, path, None).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Reply {
        self.try_send(method, path, body).await.unwrap()
    }

    async fn try_send(&self, method: Method, path: &str, body: Option<Value>) -> Result<Reply, Gone> {
        let mut request = Request::builder().method(method.clone()).uri(format!("{}{path}", self.base));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(|value| Bytes::from(value.to_string())).unwrap_or_default();
        let response = self.client.request(request.body(Full::new(body)).unwrap()).await?;
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await?.to_bytes();
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| text());
        let reply = Reply { status: parts.status, headers: parts.headers, body };
        if let Some(contract) = &self.contract {
            contract.check(&method, path, &reply);
        }
        Ok(reply)
    }
}
