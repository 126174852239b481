//! The configuration stream: applied, refused, asked for, reported, and come back to.

use weft_api::v1::config_request::Body;
use weft_api::v1::resource::Body as ResourceBody;
use weft_api::v1::{self, Delta, Kind, Resource, ResourceVersion};
use weft_sidecar::reject::Reason;

use crate::operator::{OPERATOR, Operator, Stream, authority};
use crate::proxy::Proxy;

const PRODUCT: &str = "shop/product:http";

fn resource(name: &str, version: &str, body: ResourceBody) -> Resource {
    Resource { name: name.to_owned(), version: version.to_owned(), body: Some(body) }
}

fn proxy_resource(service: &str) -> Resource {
    resource(
        "self",
        service,
        ResourceBody::Proxy(v1::Proxy { service: service.to_owned(), ..v1::Proxy::default() }),
    )
}

fn inbound() -> Resource {
    let identity = "spiffe://cluster.local/ns/shop/sa/order".to_owned();
    resource("self", "1", ResourceBody::Inbound(v1::Inbound { identity, ..v1::Inbound::default() }))
}

fn product() -> Resource {
    let spec = v1::Destination { service: "shop/product".to_owned(), ..v1::Destination::default() };
    resource(PRODUCT, "p1", ResourceBody::Destination(spec))
}

fn delta(nonce: &str, upserts: Vec<Resource>) -> Delta {
    Delta { nonce: nonce.to_owned(), upserts, removals: Vec::new() }
}

async fn connected() -> (Operator, Proxy, Stream) {
    let operator = Operator::start().await;
    let proxy = Proxy::start(&operator);
    let stream = operator.stream().await;
    (operator, proxy, stream)
}

#[tokio::test]
async fn a_delta_is_applied_and_acked() {
    let (_operator, proxy, mut stream) = connected().await;
    assert_eq!((stream.hello.workload.as_str(), stream.hello.instance.as_str()), ("shop/order", "order-0"));
    assert!(stream.hello.have.is_empty());
    assert!(!proxy.shared.is_ready());
    stream.send(delta("1", vec![proxy_resource("shop/order"), inbound()])).await;
    stream.acked("1").await;
    assert_eq!(&*proxy.shared.config.load().proxy.service, "shop/order");
    assert!(proxy.shared.is_ready());
    proxy.metric("weft_config_updates_total 1").await;
}

#[tokio::test]
async fn a_bad_delta_is_refused_whole_and_names_the_resource() {
    let (_operator, proxy, mut stream) = connected().await;
    stream.send(delta("1", vec![proxy_resource("shop/order")])).await;
    stream.acked("1").await;
    let bad = v1::Inbound { identity: "nobody".to_owned(), ..v1::Inbound::default() };
    let bad = resource("self", "2", ResourceBody::Inbound(bad));
    stream.send(delta("2", vec![proxy_resource("shop/changed"), bad])).await;
    let Body::Nack(nack) = stream.next().await else { panic!("expected a nack") };
    assert_eq!((nack.nonce.as_str(), nack.errors.len()), ("2", 1));
    assert_eq!((nack.errors[0].kind(), nack.errors[0].name.as_str()), (Kind::Inbound, "self"));
    assert!(nack.errors[0].message.contains("nobody"), "{}", nack.errors[0].message);
    assert_eq!(&*proxy.shared.config.load().proxy.service, "shop/order");
    proxy.metric("weft_config_rejected_total 1").await;
}

#[tokio::test]
async fn a_request_waits_for_a_destination_that_is_asked_for() {
    let (_operator, proxy, mut stream) = connected().await;
    let answer = async {
        let Body::Want(want) = stream.next().await else { panic!("expected a want") };
        assert_eq!(want.destinations, [PRODUCT]);
        stream.send(delta("1", vec![product()])).await;
        stream.acked("1").await;
    };
    let (destination, ()) = tokio::join!(proxy.shared.destination(PRODUCT), answer);
    assert_eq!(&*destination.unwrap().service, "shop/product");
}

#[tokio::test]
async fn a_destination_that_does_not_exist_is_refused_without_waiting() {
    let (_operator, proxy, mut stream) = connected().await;
    let answer = async {
        stream.next().await;
        let removal = ResourceVersion {
            kind: Kind::Destination.into(),
            name: PRODUCT.to_owned(),
            version: String::new(),
        };
        stream.send(Delta { nonce: "1".to_owned(), upserts: Vec::new(), removals: vec![removal] }).await;
    };
    let (destination, ()) = tokio::join!(proxy.shared.destination(PRODUCT), answer);
    assert_eq!(destination.unwrap_err().reason, Reason::UnknownDestination);
    let again = proxy.shared.destination(PRODUCT).await;
    assert_eq!(again.unwrap_err().reason, Reason::UnknownDestination);
}

fn address(name: &str, destination: &str) -> Resource {
    let lead = v1::Address { destination: destination.to_owned(), ..v1::Address::default() };
    resource(name, destination, ResourceBody::Address(lead))
}

#[tokio::test]
async fn an_address_is_asked_for_once_and_a_push_corrects_the_answer() {
    let (_operator, proxy, mut stream) = connected().await;
    let name = "10.96.0.9:80";
    let answer = async {
        let Body::Want(want) = stream.next().await else { panic!("expected a want") };
        assert_eq!(want.destinations, [name]);
        stream.send(delta("1", vec![address(name, "")])).await;
        stream.acked("1").await;
    };
    let (unknown, ()) = tokio::join!(proxy.shared.address(name), answer);
    assert_eq!(unknown.unwrap().unwrap().destination, None);
    let before = std::sync::Arc::clone(&proxy.shared.config.load().addresses);
    stream.send(delta("2", vec![product()])).await;
    stream.acked("2").await;
    assert!(std::sync::Arc::ptr_eq(&before, &proxy.shared.config.load().addresses), "nothing moved");
    stream.send(delta("3", vec![address(name, PRODUCT)])).await;
    stream.acked("3").await;
    let known = proxy.shared.address(name).await.unwrap().unwrap();
    assert_eq!(known.destination.as_deref(), Some(PRODUCT));
}

/// Has the proxy ask for an address, answers, and says what it forgets for it.
async fn asked(proxy: &Proxy, stream: &mut Stream, nonce: &str, answer: Resource) -> Vec<String> {
    let name = answer.name.clone();
    let answering = async {
        let Body::Want(want) = stream.next().await else { panic!("expected a want") };
        assert_eq!(want.destinations, std::slice::from_ref(&name));
        stream.send(delta(nonce, vec![answer])).await;
        stream.acked(nonce).await;
        want.forget
    };
    tokio::join!(proxy.shared.address(&name), answering).1
}

#[tokio::test]
async fn the_oldest_address_outside_the_mesh_is_forgotten_where_there_are_too_many() {
    let (_operator, proxy, mut stream) = connected().await;
    let name = |at: usize| format!("192.0.2.1:{}", 10_000 + at);
    asked(&proxy, &mut stream, "0", address(&name(0), PRODUCT)).await;
    for at in 1..1024 {
        let forgotten = asked(&proxy, &mut stream, &at.to_string(), address(&name(at), "")).await;
        assert!(forgotten.is_empty(), "{forgotten:?}");
    }
    let forgotten = asked(&proxy, &mut stream, "1024", address(&name(1024), "")).await;
    assert_eq!(forgotten, [name(1)], "the one before leads to a destination");
}

#[tokio::test]
async fn destinations_of_explicit_listeners_are_asked_for_at_once() {
    let (_operator, _proxy, mut stream) = connected().await;
    let listener = v1::OutboundListener {
        listen: "127.0.0.1:1".to_owned(),
        destination: PRODUCT.to_owned(),
        protocol: 0,
    };
    let proxy = v1::Proxy { outbound: vec![listener], ..v1::Proxy::default() };
    stream.send(delta("1", vec![resource("self", "1", ResourceBody::Proxy(proxy))])).await;
    stream.acked("1").await;
    let Body::Want(want) = stream.next().await else { panic!("expected a want") };
    assert_eq!(want.destinations, [PRODUCT]);
}

#[tokio::test]
async fn with_the_operator_gone_the_last_good_configuration_stays_and_a_new_one_is_told_what_is_held() {
    let (operator, proxy, mut stream) = connected().await;
    stream.send(delta("1", vec![proxy_resource("shop/order"), inbound(), product()])).await;
    stream.acked("1").await;
    proxy.metric("weft_config_connected 1").await;
    operator.kill();
    proxy.metric("weft_config_connected 0").await;
    assert!(proxy.shared.is_ready());
    assert!(proxy.shared.destination(PRODUCT).await.is_ok());
    let asked = proxy.shared.destination("shop/user:grpc");
    let back = async {
        let issuer = std::mem::replace(&mut operator.signing.lock().unwrap().issuer, authority("unused"));
        let operator = Operator::start_as(OPERATOR, operator.address, issuer).await;
        let mut stream = operator.stream().await;
        let mut have: Vec<(Kind, &str)> =
            stream.hello.have.iter().map(|held| (held.kind(), held.version.as_str())).collect();
        have.sort_unstable_by_key(|held| held.0 as i32);
        assert_eq!(have, [(Kind::Proxy, "shop/order"), (Kind::Inbound, "1"), (Kind::Destination, "p1")]);
        assert_eq!(stream.hello.want, ["shop/user:grpc"]);
        let user = Resource { name: "shop/user:grpc".to_owned(), ..product() };
        stream.send(delta("1", vec![user])).await;
        stream.acked("1").await;
    };
    let (asked, ()) = tokio::join!(asked, back);
    assert!(asked.is_ok());
}

#[tokio::test]
async fn the_report_tells_certificate_edges_and_readiness() {
    let (_operator, proxy, mut stream) = connected().await;
    let first = stream.report(|_| true).await;
    assert!(!first.ready && first.certificate_not_after > 0);
    stream.send(delta("1", vec![proxy_resource("shop/order"), inbound()])).await;
    stream.acked("1").await;
    let ok = weft_sidecar::telemetry::Answer {
        status: http::StatusCode::OK,
        grpc_status: None,
        reject: None,
        duration: std::time::Duration::from_millis(7),
    };
    let direction = weft_sidecar::telemetry::Direction::Inbound;
    proxy.shared.telemetry.metrics.peer(direction, "shop/gateway").finished(&ok);
    let report = stream.report(|report| !report.edges.is_empty()).await;
    assert!(report.ready);
    let edge = &report.edges[0];
    assert_eq!(
        (edge.peer.as_str(), edge.inbound, edge.requests, edge.latency_sum_ms),
        ("shop/gateway", true, 1, 7)
    );
}

#[tokio::test]
async fn draining_is_reported_at_once() {
    let (_operator, proxy, mut stream) = connected().await;
    stream.send(delta("1", vec![proxy_resource("shop/order"), inbound()])).await;
    stream.acked("1").await;
    stream.report(|report| report.ready).await;
    proxy.shared.tasks.begin();
    stream.report(|report| !report.ready).await;
}
