//! A check by HTTP: well is a status from 200 to 399, after redirects on the same host, whatever certificate is shown.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, HOST, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use http::uri::{Authority, Uri};
use http::{HeaderMap, Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;

use super::{Sick, connect, over, tls};

/// As many as the kubelet follows.
const MAX_REDIRECTS: usize = 10;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    port: u16,
    #[serde(default)]
    path: String,
    /// Another address than the pod's.
    #[serde(default)]
    host: String,
    #[serde(default)]
    scheme: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
}

impl Check {
    pub(super) async fn ask(&self, app: IpAddr) -> Result<(), Sick> {
        let ip = if self.host.is_empty() {
            app
        } else {
            self.host.parse().map_err(|_| format!("`{}` is no IP address", self.host))?
        };
        let address = SocketAddr::new(ip, self.port);
        let mut target: Uri = self.target().parse().map_err(|error| format!("path: {error}"))?;
        for _ in 0..=MAX_REDIRECTS {
            let answer = Box::pin(self.send(address, &target)).await?;
            let status = answer.status();
            match next(address, &target, &answer).filter(|_| status.is_redirection()) {
                Some(next) => target = next,
                None if status.is_success() || status.is_redirection() => return Ok(()),
                None => return Err(format!("the application answers {status}")),
            }
        }
        Err(format!("more than {MAX_REDIRECTS} redirects"))
    }

    fn target(&self) -> String {
        if self.path.starts_with('/') { self.path.clone() } else { format!("/{}", self.path) }
    }

    async fn send(&self, address: SocketAddr, target: &Uri) -> Result<Response<Incoming>, Sick> {
        let stream = connect(address).await?;
        let request = self.request(address, target)?;
        if self.scheme.eq_ignore_ascii_case("https") {
            let stream = Box::pin(tls::over(stream, address)).await?;
            Box::pin(converse(TokioIo::new(stream), request)).await
        } else {
            converse(TokioIo::new(stream), request).await
        }
    }

    fn request(&self, address: SocketAddr, target: &Uri) -> Result<Request<Empty<Bytes>>, Sick> {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static("kube-probe/weft"));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        let mut own = HeaderMap::new();
        for (name, value) in &self.headers {
            let name: HeaderName = name.parse().map_err(|_| format!("`{name}` is no header name"))?;
            let value: HeaderValue =
                value.parse().map_err(|_| format!("the value of `{name}` is not one"))?;
            own.append(name, value);
        }
        headers.extend(own);
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        if !headers.contains_key(HOST) {
            let host = HeaderValue::try_from(address.to_string());
            headers.insert(HOST, host.map_err(|error| error.to_string())?);
        }
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = target.clone();
        *request.headers_mut() = headers;
        Ok(request)
    }
}

async fn converse<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Response<Incoming>, Sick>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    let failed = |error: hyper::Error| format!("the application does not answer: {error}");
    let (mut sender, connection) = http1::handshake(stream).await.map_err(failed)?;
    let call = async { sender.send_request(request).await.map_err(failed) };
    over(connection, call).await
}

/// Where a redirect leads on the same host; one to elsewhere is not followed, and counts as well.
fn next(address: SocketAddr, from: &Uri, answer: &Response<Incoming>) -> Option<Uri> {
    let location = answer.headers().get(LOCATION)?.to_str().ok()?;
    let to: Uri = location.parse().ok()?;
    let here = |authority: &Authority| {
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        host.parse() == Ok(address.ip()) && authority.port_u16().is_none_or(|port| port == address.port())
    };
    match to.authority() {
        Some(authority) if !here(authority) => None,
        Some(_) => to.path_and_query()?.as_str().parse().ok(),
        None if location.starts_with('/') => Some(to),
        None => {
            let (folder, _) = from.path().rsplit_once('/')?;
            format!("{folder}/{location}").parse().ok()
        }
    }
}
