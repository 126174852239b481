//! `Config.Subscribe`: what a proxy gets, when, and what it does not get.

use tonic::Code;
use weft_api::status::{BreakerState, ConfigState};
use weft_api::tls::Identity;
use weft_api::v1::config_request::Body;
use weft_api::v1::resource::Body as Content;
use weft_api::v1::{BreakerReport, Delta, Hello, Kind, Report};
use weft_core::ca::{Ca, Lifetime};
use weft_core::instances::Role;

use crate::harness::{
    DEADLINE, MESH, ORDER, Operator, Proxy, USER, channel, folder, hello, instance, request,
};

const USER_HTTP: &str = "shop/user:http";

const EDGE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec:
  gatewayClassName: weft
  listeners: [{name: http, port: 8080, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: users, namespace: shop}
spec:
  parentRefs: [{name: edge}]
  rules: [{matches: [{path: {type: PathPrefix, value: /users}}], backendRefs: [{name: user, port: 80}]}]
";

fn kinds(delta: &Delta) -> Vec<Kind> {
    delta.upserts.iter().map(weft_api::v1::Resource::kind).collect()
}

fn addresses(resource: &weft_api::v1::Resource) -> Vec<&str> {
    match &resource.body {
        Some(Content::Endpoints(all)) => all.endpoints.iter().map(|one| one.address.as_str()).collect(),
        other => panic!("no endpoints: {other:?}"),
    }
}

#[tokio::test]
async fn a_proxy_gets_its_own_resources_at_once() {
    let operator = Operator::of_shop().await;
    let mut proxy = operator.proxy("order", 0).await;
    let delta = proxy.next().await;
    assert_eq!(kinds(&delta), [Kind::Proxy, Kind::Inbound]);
    let Some(Content::Inbound(inbound)) = &delta.upserts[1].body else { panic!("{delta:?}") };
    assert_eq!(inbound.identity, "spiffe://mesh.test/ns/shop/sa/order");
    proxy.ack(delta).await;
    proxy.assert_quiet().await;
    assert!(operator.metric("weft_operator_streams").await > 0.0);
    operator.stop().await;
}

#[tokio::test]
async fn a_wanted_destination_comes_with_its_endpoints_and_routes() {
    let operator = Operator::of_shop().await;
    let mut proxy = operator.proxy("order", 0).await;
    proxy.want(USER_HTTP).await;
    let endpoints = proxy.until(Kind::Endpoints, USER_HTTP, |_| true).await;
    assert_eq!(addresses(&endpoints), [instance("user", 0).ports["http"].peers.to_string()]);
    let destination = proxy.until(Kind::Destination, USER_HTTP, |_| true).await;
    let Some(Content::Destination(destination)) = destination.body else { panic!("no destination") };
    assert_eq!(destination.mtls.unwrap().identities, ["spiffe://mesh.test/ns/shop/sa/user"]);
}

const USER_SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: user, namespace: shop}
spec: {clusterIP: 10.96.0.9, ports: [{name: http, port: 80, targetPort: 8080}]}
";

fn lead(resource: &weft_api::v1::Resource) -> &str {
    match &resource.body {
        Some(Content::Address(address)) => &address.destination,
        other => panic!("no address: {other:?}"),
    }
}

#[tokio::test]
async fn an_address_brings_the_destination_it_leads_to_and_follows_it() {
    let operator = Operator::of_shop().await;
    let mut proxy = operator.proxy("order", 0).await;
    proxy.want("10.96.0.9:80").await;
    let unknown = proxy.until(Kind::Address, "10.96.0.9:80", |_| true).await;
    assert_eq!(lead(&unknown), "");
    operator.write("service.yaml", USER_SERVICE);
    let known = proxy.until(Kind::Address, "10.96.0.9:80", |resource| !lead(resource).is_empty()).await;
    assert_eq!(lead(&known), USER_HTTP);
    proxy.until(Kind::Endpoints, USER_HTTP, |_| true).await;
    operator.write_instances(&[instance("user", 0), instance("user", 1), instance("order", 0)]);
    let both = proxy.until(Kind::Endpoints, USER_HTTP, |resource| addresses(resource).len() == 2).await;
    assert_eq!(addresses(&both).len(), 2, "endpoints reached by an address alone are kept up to date");
}

#[tokio::test]
async fn an_address_that_is_forgotten_is_taken_away_with_what_only_it_brought() {
    let operator = Operator::of_shop().await;
    let mut proxy = operator.proxy("order", 0).await;
    proxy.want("shop/user:80").await;
    proxy.until(Kind::Address, "shop/user:80", |_| true).await;
    proxy.assert_quiet().await;
    proxy.forget("shop/user:80").await;
    let delta = proxy.next().await;
    let mut gone: Vec<Kind> = delta.removals.iter().map(weft_api::v1::ResourceVersion::kind).collect();
    gone.sort_unstable_by_key(|kind| *kind as i32);
    assert_eq!(gone, [Kind::Destination, Kind::Endpoints, Kind::Routes, Kind::Address]);
    assert!(delta.upserts.is_empty());
}

#[tokio::test]
async fn a_changed_endpoint_is_one_small_delta() {
    let operator = Operator::of_shop().await;
    let mut proxy = operator.proxy("order", 0).await;
    proxy.want(USER_HTTP).await;
    proxy.until(Kind::Endpoints, USER_HTTP, |_| true).await;
    proxy.assert_quiet().await;
    operator.write_instances(&[instance("user", 0), instance("user", 1), instance("order", 0)]);
    let delta = proxy.next().await;
    assert_eq!((kinds(&delta), delta.removals.len()), (vec![Kind::Endpoints], 0));
    assert_eq!(addresses(&delta.upserts[0]).len(), 2);
    proxy.ack(delta).await;
    proxy.assert_quiet().await;
}

#[tokio::test]
async fn changes_while_a_delta_is_outstanding_come_as_one() {
    let operator = Operator::of_shop().await;
    let mut proxy = operator.proxy("order", 0).await;
    proxy.want(USER_HTTP).await;
    proxy.until(Kind::Endpoints, USER_HTTP, |_| true).await;
    proxy.assert_quiet().await;
    let with_users = |count: u8| {
        let users = (0..count).map(|number| instance("user", number));
        users.chain([instance("order", 0)]).collect::<Vec<_>>()
    };
    operator.write_instances(&with_users(2));
    let outstanding = proxy.next().await;
    for count in [3, 4, 5] {
        operator.write_instances(&with_users(count));
        operator
            .until("all instances", |status| {
                status.services.iter().any(|s| s.instances.len() == usize::from(count))
            })
            .await;
    }
    proxy.ack(outstanding).await;
    let next = proxy.next().await;
    assert_eq!((kinds(&next), addresses(&next.upserts[0]).len()), (vec![Kind::Endpoints], 5));
    proxy.ack(next).await;
    proxy.assert_quiet().await;
}

#[tokio::test]
async fn a_refused_version_is_sent_again_only_when_it_changed() {
    let operator = Operator::of_shop().await;
    let mut proxy = operator.proxy("order", 0).await;
    let first = proxy.next().await;
    proxy.nack(&first, Kind::Inbound, "self").await;
    let rest = proxy.next().await;
    assert_eq!(kinds(&rest), [Kind::Proxy], "what was not at fault comes again");
    proxy.ack(rest).await;
    proxy.assert_quiet().await;
    let is_refused = |state: ConfigState| {
        move |status: &weft_api::status::MeshStatus| {
            status
                .services
                .iter()
                .flat_map(|s| &s.instances)
                .any(|i| i.name == "order-0" && i.config == state)
        }
    };
    let status = operator.until("the refusal", is_refused(ConfigState::Refused)).await;
    let refusal = &status.services.iter().find(|s| s.name == "order").unwrap().instances[0].refusal;
    assert!(refusal.contains("not to my taste"), "{refusal}");
    assert!(operator.metric("weft_operator_nacks_total").await > 0.0);

    operator.write("order.yaml", &ORDER.replace("protocol: HTTP", "protocol: GRPC"));
    let mended = proxy.next().await;
    assert!(kinds(&mended).contains(&Kind::Inbound));
    proxy.ack(mended).await;
    operator.until("the ack", is_refused(ConfigState::Synced)).await;
}

#[tokio::test]
async fn what_a_reconnecting_proxy_has_is_not_sent_again_even_by_another_operator() {
    let operator = Operator::of_shop().await;
    let mut proxy = operator.proxy("order", 0).await;
    proxy.want(USER_HTTP).await;
    proxy.until(Kind::Endpoints, USER_HTTP, |_| true).await;
    proxy.until(Kind::Inbound, "self", |_| true).await;
    proxy.assert_quiet().await;
    let again = Hello { have: proxy.have(), want: vec![USER_HTTP.into()], ..hello("order", 0) };
    let roots = operator.roots();
    let operator = operator.restart().await;
    assert_eq!(operator.roots(), roots, "the authority survives a restart");
    let ended = loop {
        match proxy.receive().await {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    assert!(ended.is_err(), "the old stream says that the operator went: {ended:?}");
    let mut proxy = operator.proxy_with(again).await;
    proxy.assert_quiet().await;
}

#[tokio::test]
async fn what_is_gone_is_removed() {
    let operator = Operator::of_shop().await;
    let mut proxy = operator.proxy("order", 0).await;
    proxy.want(USER_HTTP).await;
    proxy.until(Kind::Destination, USER_HTTP, |_| true).await;
    proxy.until(Kind::Endpoints, USER_HTTP, |_| true).await;
    proxy.assert_quiet().await;
    operator.remove("user.yaml");
    let delta = proxy.next().await;
    assert!(delta.upserts.is_empty() && delta.removals.iter().all(|removal| removal.name == USER_HTTP));
    proxy.ack(delta).await;
    operator.write("user.yaml", USER);
    proxy.until(Kind::Destination, USER_HTTP, |_| true).await;
}

#[tokio::test]
async fn another_workloads_configuration_is_denied() {
    let operator = Operator::of_shop().await;
    for hello in [hello("user", 0), Hello { workload: "shop/ghost".into(), ..hello("order", 0) }] {
        let identity = operator.identity("order", 0).await;
        let mut proxy = Proxy::open(operator.bound.grpc, identity, hello).await;
        assert_eq!(proxy.receive().await.unwrap_err().code(), Code::PermissionDenied);
    }
    let nobody = Identity { chain: vec![], ..operator.identity("order", 0).await };
    let mut proxy = Proxy::open(operator.bound.grpc, nobody, hello("order", 0)).await;
    assert_eq!(proxy.receive().await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let operator = Operator::of_shop().await;
    let now = operator.status().await.time;
    let foreign = Ca::new("mesh.test", now, DEADLINE * 1000).unwrap();
    let (key, csr) = request();
    let id = "spiffe://mesh.test/ns/shop/sa/order".parse().unwrap();
    let life = Lifetime { length: DEADLINE * 100, renew_percent: 70 };
    let chain = foreign.sign(&csr, &id, now, life).unwrap().chain;
    let identity = Identity { chain, key, roots: operator.roots() };
    // TLS 1.3: the client learns of it with its first read.
    let refused = match channel(operator.bound.grpc, identity).await {
        Ok(channel) => {
            let hello = weft_api::v1::ConfigRequest { body: Some(Body::Hello(hello("order", 0))) };
            let mut call = weft_api::v1::config_client::ConfigClient::new(channel);
            call.subscribe(tokio_stream::iter([hello])).await.is_err()
        }
        Err(_) => true,
    };
    assert!(refused);
    assert!(operator.metric("weft_operator_handshakes_refused_total").await > 0.0);
}

#[tokio::test]
async fn a_report_shows_in_the_status_while_the_stream_lives() {
    let operator = Operator::of_shop().await;
    let mut proxy = operator.proxy("order", 0).await;
    let delta = proxy.next().await;
    proxy.ack(delta).await;
    let breaker =
        BreakerReport { destination: USER_HTTP.into(), state: 1, failures: 5, ..BreakerReport::default() };
    let report = Report {
        certificate_not_after: 77,
        breakers: vec![breaker],
        ready: true,
        open_connections: 3,
        ..Report::default()
    };
    proxy.say(Body::Report(report)).await;
    let order = |status: &weft_api::status::MeshStatus| {
        status.services.iter().find(|service| service.name == "order").unwrap().instances[0].clone()
    };
    let status = operator.until("the report", |status| order(status).certificate_expires == 77).await;
    let instance = order(&status);
    assert!(instance.connected && instance.proxy_version == "test" && !instance.acked_version.is_empty());
    assert_eq!((instance.breakers[0].state, instance.open_connections), (BreakerState::Open, 3));
    drop(proxy);
    operator.until("the end of the stream", |status| !order(status).connected).await;
}

#[tokio::test]
async fn a_stream_ends_with_the_certificate_it_was_opened_with() {
    let folder = folder(&[("mesh.yaml", MESH), ("order.yaml", ORDER)], &[instance("order", 0)]);
    let short = |settings: &mut weft_operator::settings::Settings| {
        settings.certificate_lifetime = Some(std::time::Duration::from_secs(2));
    };
    let mut operator = Operator::start_with(folder, short).await;
    operator.until_ready().await;
    let mut proxy = operator.proxy("order", 0).await;
    let delta = proxy.next().await;
    proxy.ack(delta).await;
    assert_eq!(proxy.receive().await.unwrap_err().code(), Code::Unauthenticated);
    operator.proxy("order", 0).await.next().await;
}

#[tokio::test]
async fn a_gateway_gets_its_listeners_and_routes_and_shows_its_addresses() {
    let files = [("mesh.yaml", MESH), ("user.yaml", USER), ("edge.yaml", EDGE)];
    let listener = "127.0.0.1:18080".parse().unwrap();
    let mut edge = instance("edge", 0);
    edge.role = Role::Gateway;
    edge.ports.clear();
    edge.listeners.insert("http".into(), listener);
    let operator = Operator::serving(&files, &[instance("user", 0), edge]).await;
    let mut proxy = operator.proxy("edge", 0).await;
    let gateway = proxy.until(Kind::Gateway, "self", |_| true).await;
    let Some(Content::Gateway(gateway)) = gateway.body else { panic!("no gateway") };
    assert_eq!(gateway.identity, "spiffe://mesh.test/ns/shop/sa/edge");
    assert_eq!(gateway.listeners[0].listen, listener.to_string());
    proxy.until(Kind::Routes, &gateway.listeners[0].routes, |_| true).await;
    let status = operator.status().await;
    assert_eq!(status.gateways[0].addresses[0].address, listener);
}
