//! A check by the health protocol of gRPC: well is a service that says `SERVING`.
//!
//! One call over HTTP/2, written out: the two messages of `grpc.health.v1` are a string and a number.

use std::net::IpAddr;

use bytes::{BufMut, Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use serde::Deserialize;

use super::{Sick, connect, over};

/// `ServingStatus.SERVING`.
const SERVING: i32 = 1;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    port: u16,
    #[serde(default)]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

impl Check {
    pub(super) async fn ask(&self, app: IpAddr) -> Result<(), Sick> {
        let stream = connect((app, self.port).into()).await?;
        let failed = |error: hyper::Error| format!("the application does not answer: {error}");
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(failed)?;
        let request = self.request(app)?;
        let call = async {
            let answer = sender.send_request(request).await.map_err(failed)?;
            status(answer).await
        };
        match over(connection, call).await? {
            SERVING => Ok(()),
            other => Err(format!("the application says it is not serving (status {other})")),
        }
    }

    fn request(&self, app: IpAddr) -> Result<Request<Full<Bytes>>, Sick> {
        let message = HealthCheckRequest { service: self.service.clone() }.encode_to_vec();
        let mut body = BytesMut::with_capacity(5 + message.len());
        body.put_u8(0);
        body.put_u32(u32::try_from(message.len()).map_err(|error| error.to_string())?);
        body.put_slice(&message);
        let authority = std::net::SocketAddr::new(app, self.port);
        Request::post(format!("http://{authority}/grpc.health.v1.Health/Check"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "kube-probe/weft")
            .body(Full::new(body.freeze()))
            .map_err(|error| error.to_string())
    }
}

/// The status an answer says, or what went wrong in gRPC's words.
async fn status(answer: Response<Incoming>) -> Result<i32, Sick> {
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.map_err(|error| format!("the answer broke off: {error}"))?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    let code = trailers.get("grpc-status").or_else(|| parts.headers.get("grpc-status"));
    let code = code.and_then(|code| code.to_str().ok());
    if code != Some("0") {
        return Err(format!(
            "the application answers {}, gRPC status {}",
            parts.status,
            code.unwrap_or("none")
        ));
    }
    let body = body.to_bytes();
    let message = body.get(5..).ok_or("the answer is no gRPC message")?;
    HealthCheckResponse::decode(message).map(|answer| answer.status).map_err(|error| error.to_string())
}
