//! One request to a port on the loopback address of a pod, through the API server, as `kubectl port-forward` does it.
//! No local port is opened.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use http::Method;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;

use crate::cluster::told;
use crate::http::exchange;

/// Admin pages are made in memory; the way leads through API server and kubelet.
const PATIENCE: Duration = Duration::from_secs(15);

/// The page at `path` of a pod's port.
pub(crate) async fn get(pods: &Api<Pod>, pod: &str, port: u16, path: &str) -> Result<Bytes> {
    let answer = tokio::time::timeout(PATIENCE, ask(pods, pod, port, path)).await;
    let answer = answer.unwrap_or_else(|_| Err(anyhow!("no answer within {} s", PATIENCE.as_secs())));
    answer.with_context(|| format!("port {port} of the pod {pod} cannot be read"))
}

async fn ask(pods: &Api<Pod>, pod: &str, port: u16, path: &str) -> Result<Bytes> {
    let forwarder = pods.portforward(pod, &[port]).await;
    let mut forwarder = forwarder.map_err(|error| anyhow!(told(error)))?;
    let stream = forwarder.take_stream(port).context("the port was not forwarded")?;
    let refused = forwarder.take_error(port).context("the port was not forwarded")?;
    let host = format!("127.0.0.1:{port}");
    let answer = tokio::select! {
        biased;
        Some(why) = refused => bail!("{}", why.trim()),
        answer = exchange(stream, &host, Method::GET, path) => answer?,
    };
    match answer {
        (code, body) if code.is_success() => Ok(body),
        (code, body) => bail!("GET {path} answers {code}: {}", String::from_utf8_lossy(&body).trim()),
    }
}
