//! Health checks against applications that are well, sick, silent or not there.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// An application: `/well` is, `/sick` is not, `/moved` leads to either, the health service of gRPC serves `a` only.
async fn app(tasks: &mut JoinSet<()>) -> u16 {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                drop(builder.serve_connection(TokioIo::new(stream), service_fn(answer)).await);
            });
        }
    });
    port
}

async fn answer(
    request: ::http::Request<hyper::body::Incoming>,
) -> Result<::http::Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let host = request.headers().get("host").cloned();
    let status = |status: u16| ::http::Response::builder().status(status);
    let body =
        request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let answer = match path.as_str() {
        "/well" => status(204).body(Full::default()),
        "/named" if host.as_ref().is_some_and(|host| host == "shop.example") => {
            status(200).body(Full::default())
        }
        "/moved" => status(302).header("location", "/sick").body(Full::default()),
        "/away" => status(302).header("location", "http://192.0.2.1/sick").body(Full::default()),
        "/grpc.health.v1.Health/Check" => {
            let serving = if body.ends_with(b"a") { 1 } else { 2 };
            status(200)
                .header("grpc-status", "0")
                .body(Full::new(Bytes::copy_from_slice(&[0, 0, 0, 0, 2, 8, serving])))
        }
        _ => status(500).body(Full::default()),
    };
    Ok(answer.unwrap())
}

async fn outcome(check: serde_json::Value) -> (StatusCode, String) {
    let probes = Probes::parse(&serde_json::json!({"app/liveness": check}).to_string()).unwrap();
    let answer = probes.ask("app/liveness", HERE).await;
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn applications_are_judged_as_the_kubelet_judges() {
    let mut tasks = JoinSet::new();
    let port = app(&mut tasks).await;
    let http = |path: &str| serde_json::json!({"http": {"port": port, "path": path}});
    let named =
        serde_json::json!({"http": {"port": port, "path": "/named", "headers": [["Host", "shop.example"]]}});
    let grpc = |service: &str| serde_json::json!({"grpc": {"port": port, "service": service}});
    let closed = TcpListener::bind((HERE, 0)).await.unwrap().local_addr().unwrap().port();
    for (check, expect) in [
        (http("/well"), 200),
        (http("well"), 200),
        (named, 200),
        (http("/away"), 200),
        (http("/moved"), 503),
        (http("/sick"), 503),
        (grpc("a"), 200),
        (grpc("b"), 503),
        (serde_json::json!({"tcp": {"port": port}}), 200),
        (serde_json::json!({"tcp": {"port": closed}}), 503),
        (serde_json::json!({"http": {"port": closed}}), 503),
        (serde_json::json!({"grpc": {"port": closed}}), 503),
    ] {
        let shown = check.to_string();
        let (status, words) = outcome(check).await;
        assert_eq!(status.as_u16(), expect, "{shown}: {words}");
    }
}

#[tokio::test]
async fn a_silent_application_is_given_its_time_and_no_more() {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    for check in ["http", "grpc"] {
        let (status, words) = outcome(serde_json::json!({check: {"port": port}, "timeoutMs": 30})).await;
        assert_eq!((status.as_u16(), words.as_str()), (503, "no answer within 30ms\n"));
    }
}

#[tokio::test]
async fn a_check_that_nobody_set_is_not_found() {
    let answer = Probes::default().ask("app/liveness", HERE).await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
}

#[test]
fn settings_that_make_no_sense_say_so() {
    for (text, why) in [
        ("", "JSON"),
        (r#"{"a/liveness": {}}"#, "a/liveness"),
        (r#"{"a/liveness": {"tcp": {"port": 1}, "http": {"port": 1}}}"#, "exactly one"),
        (r#"{"a/liveness": {"exec": {}}}"#, "exec"),
    ] {
        let error = Probes::parse(text).unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }
}
