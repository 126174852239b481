//! Commands inside a pod, among them requests from there: the way a request takes is then the real one.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::AttachParams;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use crate::ROLLOUT;
use crate::wire::{Answer, Heard};

/// The program in the image of the tests' application.
const APP: &str = "/usr/local/bin/weft-e2e-app";

/// What a command in a pod said.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Whether it exited with 0.
    pub ok: bool,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// A container to run commands in.
#[derive(Clone)]
pub struct Place {
    pods: Api<Pod>,
    /// Name of the pod.
    pub pod: String,
    container: String,
}

impl Place {
    /// The application container of a pod.
    pub fn new(pods: Api<Pod>, pod: &str, container: &str) -> Self {
        Self { pods, pod: pod.to_owned(), container: container.to_owned() }
    }

    /// Runs a command to its end.
    pub async fn exec(&self, command: &[&str]) -> Result<Ran> {
        let shown = || format!("`{}` in pod {} ({})", command.join(" "), self.pod, self.container);
        timeout(ROLLOUT, self.run(command))
            .await
            .with_context(|| format!("not done within {ROLLOUT:?}: {}", shown()))?
            .with_context(shown)
    }

    async fn run(&self, command: &[&str]) -> Result<Ran> {
        let params = AttachParams::default().container(&self.container).stdin(false);
        let mut process = self.pods.exec(&self.pod, command.to_vec(), &params).await?;
        let status = process.take_status().context("a process has a status")?;
        let (stdout, stderr) = (process.stdout(), process.stderr());
        let (stdout, stderr, status) = tokio::join!(all(stdout), all(stderr), status);
        let ok = status.is_some_and(|status| status.status.as_deref() == Some("Success"));
        Ok(Ran { ok, stdout: stdout?, stderr: String::from_utf8_lossy(&stderr?).into_owned() })
    }

    /// One GET.
    pub async fn get(&self, url: &str) -> Result<Answer> {
        self.call(&[url]).await
    }

    /// One request with options of `weft-e2e-app call`.
    pub async fn call(&self, args: &[&str]) -> Result<Answer> {
        self.calls(args).await?.pop().context("no answer was printed")
    }

    /// As many requests as the options say.
    pub async fn calls(&self, args: &[&str]) -> Result<Vec<Answer>> {
        self.app("call", args).await
    }

    /// Connects to a server that speaks first; its greeting is the body.
    pub async fn tcp(&self, address: &str) -> Result<Answer> {
        self.app("tcp", &[address]).await?.pop().context("nothing was printed")
    }

    /// As [`Self::tcp`], but the client begins TLS and asks for this server.
    pub async fn tcp_as(&self, server_name: &str, address: &str) -> Result<Answer> {
        let args = ["--server-name", server_name, address];
        self.app("tcp", &args).await?.pop().context("nothing was printed")
    }

    /// What some WebSockets got, with options of `weft-e2e-app talk`. Fails when one of them waited in vain.
    pub async fn talk(&self, args: &[&str]) -> Result<Vec<Heard>> {
        self.app("talk", args).await
    }

    async fn app<T: DeserializeOwned>(&self, mode: &str, args: &[&str]) -> Result<Vec<T>> {
        let command: Vec<&str> = [APP, mode].iter().chain(args).copied().collect();
        let ran = self.exec(&command).await?;
        let text = ran.text();
        ensure!(!text.is_empty(), "{mode} {args:?} printed nothing; standard error: {}", ran.stderr);
        let parse = |line: &str| serde_json::from_str(line).with_context(|| format!("no answer: {line}"));
        text.lines().map(parse).collect()
    }
}

async fn all(stream: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut stream) = stream {
        stream.read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}
