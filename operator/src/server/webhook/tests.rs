//! The webhooks as the API server meets them: reviews in JSON over TLS, answered from a real world.

use axum::http::{Request as HttpRequest, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use weft_api::names::{OPERATOR_HOST, PATH_MUTATE, PATH_VALIDATE};
use weft_core::validate;
use weft_core::world::{Change, Object, World};
use weft_crds::manifest;

use super::*;
use crate::event::{Event, Home};

/// Running webhooks, and a way to them.
struct Server {
    connector: tokio_rustls::TlsConnector,
    addr: std::net::SocketAddr,
    /// End with it.
    _tasks: JoinSet<()>,
}

impl Server {
    /// Webhooks in a world with these Microservices, by name and labels that they select.
    async fn start(microservices: &[(&str, Value)]) -> Self {
        let mut world = World::default();
        for (name, selector) in microservices {
            let object = microservice(name, &json!({"selector": selector}));
            let object = manifest::examine(&object).object.and_then(Object::from_manifest).unwrap();
            world.apply(Change::Upsert(Box::new(object)));
        }
        let (hub, events) = Hub::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(answer(world, events));
        let (server, client) = tls();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tasks.spawn(webhook(hub).serve(listener, server, CancellationToken::new()));
        Self { connector: client.into(), addr, _tasks: tasks }
    }

    async fn post(&self, path: &str, body: impl Into<Bytes>) -> (StatusCode, Bytes) {
        let tcp = TcpStream::connect(self.addr).await.unwrap();
        let name = ServerName::try_from(OPERATOR_HOST).unwrap();
        let tls = self.connector.connect(name, tcp).await.unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
        let mut connections = JoinSet::new();
        connections.spawn(connection);
        let request = HttpRequest::post(format!("https://{OPERATOR_HOST}{path}?timeout=5s"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body.into()))
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        (answer.status(), answer.into_body().collect().await.unwrap().to_bytes())
    }

    /// The response to a review.
    async fn ask(&self, path: &str, review: &Value) -> AdmissionResponse {
        let (status, body) = self.post(path, review.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{body:?}");
        let review: AdmissionReview<DynamicObject> = serde_json::from_slice(&body).unwrap();
        let response = review.response.unwrap();
        assert_eq!(response.uid, "0c9a8d74");
        response
    }
}

/// What the reconciler would say.
async fn answer(mut world: World, mut events: mpsc::Receiver<Event>) {
    while let Some(event) = events.recv().await {
        match event {
            Event::Injection { namespace, labels, answer } => {
                let microservice = world.selecting(&namespace, &labels).map(|name| name.name.clone());
                answer.send(Home { microservice, pod_security: None }).unwrap();
            }
            Event::Review { object, answer } => {
                answer.send(validate::review(&mut world, *object)).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
}

fn webhook(hub: Hub) -> Webhook {
    Webhook { hub, template: Arc::default(), metrics: Arc::new(Metrics::new().unwrap()) }
}

fn tls() -> (ServerTls, Arc<rustls::ClientConfig>) {
    let made = rcgen::generate_simple_self_signed([OPERATOR_HOST.to_owned()]).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let chain = vec![made.cert.der().clone()];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(chain[0].clone()).unwrap();
    let provider = weft_api::tls::provider;
    let mut server = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let mut client = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    (Arc::new(arc_swap::ArcSwap::from_pointee(server)), Arc::new(client))
}

fn microservice(name: &str, more: &Value) -> Value {
    let mut spec = json!({"ports": [{"name": "http", "port": 80, "protocol": "HTTP"}]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"apiVersion": "weft.dev/v1alpha1", "kind": "Microservice",
        "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}

fn pod(spec: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "spec": spec,
        "metadata": {"generateName": "order-", "labels": {"app": "order"}, "creationTimestamp": null}})
}

fn review(operation: &str, object: &Value, old: &Value) -> Value {
    let shown = if object.is_null() { old } else { object };
    let (group, version) = shown["apiVersion"].as_str().unwrap().rsplit_once('/').unwrap_or(("", "v1"));
    let kind = &shown["kind"];
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
        "uid": "0c9a8d74", "operation": operation, "namespace": "shop", "object": object, "oldObject": old,
        "name": shown["metadata"]["name"].as_str().unwrap_or_default(), "dryRun": false,
        "kind": {"group": group, "version": version, "kind": kind},
        "resource": {"group": group, "version": version, "resource": "things"},
        "userInfo": {"username": "admin", "groups": ["system:masters"]},
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"}}})
}

#[tokio::test]
async fn a_pod_gets_its_proxy_and_keeps_what_is_not_known() {
    let server = Server::start(&[("order", json!({"app": "order"}))]).await;
    let mut pod = pod(&json!({"serviceAccountName": "orders", "newerField": {"x": 1},
        "containers": [{"name": "app", "image": "order:1", "newerField": true,
            "readinessProbe": {"tcpSocket": {"port": 8080}}}]}));
    let answer = server.ask(PATH_MUTATE, &review("CREATE", &pod, &Value::Null)).await;
    assert!(answer.allowed, "{answer:?}");
    let patch: json_patch::Patch = serde_json::from_slice(&answer.patch.unwrap()).unwrap();
    json_patch::patch(&mut pod, &patch).unwrap();
    assert_eq!(pod["spec"]["newerField"]["x"], 1);
    assert_eq!(pod["spec"]["containers"][0]["newerField"], true);
    assert_eq!(pod["spec"]["containers"][0]["readinessProbe"]["httpGet"]["path"], "/probe/app/readiness");
    assert_eq!(pod["spec"]["initContainers"][1]["name"], "weft-proxy");
    assert_eq!(
        pod["spec"]["initContainers"][1]["env"][0],
        json!({"name": "WEFT_WORKLOAD", "value": "shop/order"})
    );
    assert_eq!(pod["metadata"]["annotations"]["weft.dev/account"], "orders");
}

#[tokio::test]
async fn a_pod_that_cannot_be_in_the_mesh_is_refused_or_told_so() {
    let server = Server::start(&[]).await;
    let container = json!([{"name": "app", "image": "order:1"}]);
    let mut bad = pod(&json!({"containers": container}));
    bad["metadata"]["annotations"] = json!({"config.weft.dev/skip-uids": "root"});
    let answer = server.ask(PATH_MUTATE, &review("CREATE", &bad, &Value::Null)).await;
    let expect = r#"metadata.annotations["config.weft.dev/skip-uids"]: `root` is no user id; write numbers, as in 0,1001"#;
    assert_eq!((answer.allowed, answer.result.message.as_str(), answer.result.code), (false, expect, 422));
    let host = pod(&json!({"hostNetwork": true, "containers": container}));
    let answer = server.ask(PATH_MUTATE, &review("CREATE", &host, &Value::Null)).await;
    assert!(answer.allowed && answer.warnings.unwrap()[0].starts_with("pod is not in the mesh"));
    // What the webhook is not for, and a pod whose fields are of other types than known.
    let other = microservice("order", &json!({}));
    let odd = pod(&json!({"containers": "none"}));
    for (object, words) in [(other, "which it is not for"), (odd, "the pod cannot be read")] {
        let answer = server.ask(PATH_MUTATE, &review("CREATE", &object, &Value::Null)).await;
        assert!(!answer.allowed && answer.result.message.contains(words), "{answer:?}");
    }
}

#[tokio::test]
async fn a_resource_that_cannot_work_is_refused_with_field_and_remedy() {
    let server = Server::start(&[("order", json!({"app": "order"}))]).await;
    let check = async |object: Value, expect: &[&str]| {
        let answer = server.ask(PATH_VALIDATE, &review("CREATE", &object, &Value::Null)).await;
        assert!(!answer.allowed, "{answer:?}");
        assert_eq!(answer.result.message.lines().collect::<Vec<_>>(), expect);
    };
    check(
        microservice("user", &json!({"prots": []})),
        &["Microservice shop/user: spec.prots: unknown field; did you mean ports?"],
    )
    .await;
    check(
        microservice("user", &json!({"selector": {"app": "order"}})),
        &["Microservice shop/user: spec.selector: selects the same pods as Microservice shop/order; \
           give one of them a selector of its own, or make them one Microservice with two ports"],
    )
    .await;
    let no_kind =
        json!({"apiVersion": "weft.dev/v1alpha1", "kind": "Mesh", "metadata": {"name": "other"}, "spec": {}});
    let answer = server.ask(PATH_VALIDATE, &review("CREATE", &no_kind, &Value::Null)).await;
    assert!(answer.result.message.contains("metadata.name"), "{answer:?}");
}

#[tokio::test]
async fn what_may_become_right_is_a_warning_and_what_was_stored_may_be_labelled() {
    let server = Server::start(&[("order", json!({"app": "order"}))]).await;
    let rule = json!({"authorization": {"rules": [{"name": "r", "from": {"services": ["nobody"]}}]}});
    let answer =
        server.ask(PATH_VALIDATE, &review("CREATE", &microservice("user", &rule), &Value::Null)).await;
    let warnings = answer.warnings.unwrap();
    assert!(answer.allowed && warnings[0].contains("there is no Microservice or Gateway shop/nobody"));
    let old = microservice("user", &json!({"selector": {"app": "order"}}));
    let mut new = old.clone();
    new["metadata"]["labels"] = json!({"a": "b"});
    let answer = server.ask(PATH_VALIDATE, &review("UPDATE", &new, &old)).await;
    assert!(answer.allowed && answer.warnings.unwrap()[0].contains("selects the same pods"));
}

#[tokio::test]
async fn what_goes_is_never_held_back() {
    let server = Server::start(&[]).await;
    let bad = microservice("user", &json!({"ports": []}));
    let mut going = bad.clone();
    going["metadata"]["deletionTimestamp"] = json!("2026-11-21T10:00:00Z");
    let mut status = review("UPDATE", &bad, &Value::Null);
    status["request"]["subResource"] = json!("status");
    for review in [review("DELETE", &Value::Null, &bad), review("UPDATE", &going, &bad), status] {
        assert!(server.ask(PATH_VALIDATE, &review).await.allowed, "{review}");
    }
}

#[tokio::test]
async fn what_is_no_review_is_an_error() {
    let server = Server::start(&[]).await;
    let empty = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}).to_string();
    let cases = [("{", 400), (empty.as_str(), 400), ("[]", 400)];
    for (body, expect) in cases {
        let (status, text) = server.post(PATH_MUTATE, body.to_owned()).await;
        assert_eq!(status.as_u16(), expect, "{text:?}");
    }
    let (status, _) = server.post(PATH_MUTATE, vec![b' '; BODY_LIMIT + 1]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(server.post("/other", "{}").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn no_answer_in_time_and_no_operator_refuse_the_pod() {
    let pod = pod(&json!({"containers": [{"name": "app", "image": "order:1"}]}));
    let request = || -> Request {
        let review: AdmissionReview<DynamicObject> =
            serde_json::from_value(review("CREATE", &pod, &Value::Null)).unwrap();
        review.try_into().unwrap()
    };
    let (hub, events) = Hub::new();
    let webhook = webhook(hub);
    let late = webhook.answer(Which::Mutate, request()).await;
    assert!(!late.allowed && late.result.message.contains("did not answer in time"), "{late:?}");
    drop(events);
    let stopping = webhook.answer(Which::Mutate, request()).await;
    assert!(
        !stopping.allowed && stopping.result.message.contains("the operator is stopping"),
        "{stopping:?}"
    );
}
