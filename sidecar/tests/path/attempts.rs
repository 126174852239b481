//! Spans of attempts: one for each, below the request's, and above what the endpoint does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::sync::Semaphore;
use weft_api::v1;
use weft_api::v1::resource;

use crate::collector::{Collector, text};
use crate::support::{CLIENT_ID, Ca, Client, DESTINATION, app, calling, client, destination, endpoints};

/// Context that each request brought, in their order.
type Parents = Arc<Mutex<Vec<String>>>;

/// Fails the first request; the others are answered once there are permits.
async fn failing_once(gate: Arc<Semaphore>) -> (SocketAddr, Parents) {
    let parents = Parents::default();
    let seen = Arc::clone(&parents);
    let address = app(move |request: Request<Incoming>| {
        let parent = request.headers()["traceparent"].to_str().unwrap().to_owned();
        let first = {
            let mut seen = seen.lock().unwrap();
            seen.push(parent);
            seen.len() == 1
        };
        let gate = Arc::clone(&gate);
        async move {
            let mut answer = Response::new(Full::new(Bytes::from("ok")));
            if first {
                *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            } else {
                gate.acquire().await.unwrap().forget();
            }
            answer
        }
    })
    .await;
    (address, parents)
}

/// A proxy that tells this collector of this share of its requests.
fn traced(
    collector: &Collector,
    sampling: f64,
    retries: v1::Retries,
    apps: &[SocketAddr],
) -> weft_sidecar::app::Handle {
    let destination = v1::Destination { mtls: None, retries: Some(retries), ..destination() };
    let mut endpoints = endpoints(apps);
    endpoints.endpoints.iter_mut().for_each(|endpoint| endpoint.meshed = false);
    let mut resources = calling(&destination, &endpoints);
    for resource in &mut resources {
        if let Some(resource::Body::Proxy(proxy)) = &mut resource.body {
            proxy.tracing = Some(v1::Tracing { otlp_endpoint: collector.endpoint.clone(), sampling });
        }
    }
    client(&Ca::new().issue(CLIENT_ID), resources)
}

/// Waits for this many spans; those of attempts by their number, and the request's as 0.
async fn spans(collector: &mut Collector, count: usize) -> BTreeMap<String, Span> {
    let mut all = BTreeMap::new();
    while all.len() < count {
        for span in collector.batch().await.1 {
            all.insert(text(&span.attributes, "weft.attempt").unwrap_or_else(|| "0".to_owned()), span);
        }
    }
    all
}

fn parent_of(span: &Span) -> String {
    let trace = u128::from_be_bytes(span.trace_id.as_slice().try_into().unwrap());
    let id = u64::from_be_bytes(span.span_id.as_slice().try_into().unwrap());
    format!("00-{trace:032x}-{id:016x}-01")
}

#[tokio::test]
async fn each_attempt_of_a_recorded_request_is_a_span_below_it() {
    let mut collector = Collector::start().await;
    let (app, parents) = failing_once(Arc::new(Semaphore::new(9))).await;
    let retries = v1::Retries {
        attempts: 2,
        on_status: vec![503],
        backoff_base_ms: 1,
        backoff_max_ms: 1,
        budget_min_per_second: 100,
        ..Default::default()
    };
    let proxy = traced(&collector, 1.0, retries, &[app]);
    let to = proxy.address(&format!("outbound/{DESTINATION}")).unwrap();
    assert_eq!(Client::connect(to).await.get("/").await.0.status(), StatusCode::OK);
    let spans = spans(&mut collector, 3).await;
    let (request, first, second) = (&spans["0"], &spans["1"], &spans["2"]);
    let value = |span: &Span, key: &str| text(&span.attributes, key).unwrap_or_default();
    for attempt in [first, second] {
        assert_eq!((&attempt.trace_id, &attempt.parent_span_id), (&request.trace_id, &request.span_id));
        assert_eq!(value(attempt, "network.peer.port"), app.port().to_string());
        assert_eq!(value(attempt, "weft.outcome"), "answered");
    }
    assert_eq!(value(first, "http.response.status_code"), "503");
    assert_eq!(value(second, "http.response.status_code"), "200");
    assert_eq!(value(second, "http.request.resend_count"), "1");
    assert_eq!(*parents.lock().unwrap(), [parent_of(first), parent_of(second)], "what the endpoint is told");
}

#[tokio::test]
async fn an_attempt_that_was_outrun_is_a_span_too() {
    let mut collector = Collector::start().await;
    let gate = Arc::new(Semaphore::new(0));
    let (slow, stuck) = failing_once(Arc::clone(&gate)).await;
    stuck.lock().unwrap().push(String::new());
    let quick = app(async |_: Request<Incoming>| Response::new(Full::new(Bytes::from("quick")))).await;
    let retries = v1::Retries {
        attempts: 1,
        hedge_after_ms: 1,
        hedge_max: 1,
        budget_min_per_second: 100,
        ..Default::default()
    };
    let proxy = traced(&collector, 1.0, retries, &[slow, quick]);
    let to = proxy.address(&format!("outbound/{DESTINATION}")).unwrap();
    let mut caller = Client::connect(to).await;
    let is_outrun = |span: &Span| text(&span.attributes, "weft.outcome").as_deref() == Some("given-up");
    let mut outrun = None;
    // Which of the two is asked first is left to chance.
    for _ in 0..100 {
        assert_eq!(caller.get("/").await.1, "quick");
        outrun = collector.batch().await.1.into_iter().find(is_outrun);
        if outrun.is_some() {
            break;
        }
    }
    let outrun = outrun.expect("the slow one is asked first at times");
    assert_eq!(text(&outrun.attributes, "network.peer.port").unwrap(), slow.port().to_string());
}

#[tokio::test]
async fn an_attempt_whose_asker_has_gone_is_a_span_too() {
    let mut collector = Collector::start().await;
    let (app, parents) = failing_once(Arc::new(Semaphore::new(0))).await;
    parents.lock().unwrap().push(String::new());
    let proxy = traced(&collector, 1.0, v1::Retries::default(), &[app]);
    let to = proxy.address(&format!("outbound/{DESTINATION}")).unwrap();
    let mut caller = Client::connect(to).await;
    let asking = async { drop(caller.get("/").await) };
    let arrived = async {
        while parents.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = asking => unreachable!("nobody answers"),
        () = arrived => {}
    }
    drop(caller);
    let spans = spans(&mut collector, 2).await;
    assert_eq!(text(&spans["1"].attributes, "weft.outcome").unwrap(), "given-up");
    assert_eq!(spans["1"].parent_span_id, spans["0"].span_id);
}

#[tokio::test]
async fn a_request_that_is_not_recorded_passes_its_own_context_on() {
    let collector = Collector::start().await;
    let (app, parents) = failing_once(Arc::new(Semaphore::new(9))).await;
    let proxy = traced(&collector, 0.0, v1::Retries::default(), &[app]);
    let to = proxy.address(&format!("outbound/{DESTINATION}")).unwrap();
    Client::connect(to).await.get("/").await;
    assert!(parents.lock().unwrap()[0].ends_with("-00"));
}
